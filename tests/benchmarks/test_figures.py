"""Figures: what they count, and that each can be drawn."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from skimage.io import imsave

from napari_affmae.card import Normalisation
from napari_affmae.engine.inspect import inspect
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import save_model
from napari_affmae.model_config import ModelConfig

HERE = Path(__file__).parent
OURS = ("figures", "token_places", "deep_supervision", "pictures", "comparison")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The script finds the modules beside it, as when it is run."""
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def micro() -> MaskedAutoencoder:
    torch.manual_seed(0)
    sizes = {"embed_dims": (8, 12, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "decoder_dim": 16}
    model = MaskedAutoencoder(ModelConfig(**sizes, decoder_heads=2, neighbourhood=(16,) * 4))
    model.card = model.card.replace(normalisation=Normalisation(low=(0.0,), high=(255.0,), mean=(120.0,), std=(50.0,)))
    return model


@pytest.mark.slow
def test_ours_grows_with_the_pixels_and_attention_of_all_tokens_with_their_square() -> None:
    counting = module("pictures.counting")
    ours, theirs = counting.gigaflops("affmae", "small"), counting.gigaflops("vit-mae", "small")
    assert ours[1024] / ours[256] == pytest.approx(16, rel=0.02)
    assert 40 < theirs[1024] / theirs[256] < 256
    # Attention of the transformer by hand: two products, 2 · n² · width each, in eight and four blocks of width 384.
    by_hand = {side: 4 * (side // 8) ** 4 * 384 * 12 / 1e9 for side in (512, 1024)}
    linear = {side: theirs[side] - by_hand[side] for side in by_hand}
    assert linear[1024] / linear[512] == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_operations_of_ours_are_those_of_its_layers_and_attention(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = module("pictures.counting")
    monkeypatch.setattr(counting, "SIDES", (256,))
    assert counting.gigaflops("affmae", preset)[256] == pytest.approx(
        by_hand(ModelConfig.preset(preset), 256, counting.CLASSES) / 1e9
    )


def by_hand(config: ModelConfig, side: int, classes: int) -> int:
    """Count what one square image takes: twice the numbers that are multiplied, layer by layer."""
    dims, wide, heads = config.embed_dims, config.decoder_dim, config.decoder_heads
    patches, half = (side // 8) ** 2, dims[0] // 2
    # Three convolutions of stride 2; of the first, windows of nine pixels are padded to sixteen.
    count = 2 * (16 * patches * 16 * half + 4 * patches * 9 * half**2 + patches * 9 * half * dims[0])
    tokens = patches
    for level, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        layers = 3 * dim + dim + 2 * int(config.mlp_ratio * dim)  # queries, keys and values; their mixture; two of the MLP
        attention = 2 * (config.neighbourhood[level] + 1)  # with the keys and with the values of neighbours and blank token
        count += 2 * tokens * depth * dim * (layers + attention)
        count += 2 * tokens * wide * (dim + wide)  # brought to the decoder's width, and made values
        if level < 3:
            kept = int(config.ds_rates[level] * tokens)
            gathered = config.neighbourhood[level] * 4 * dim  # four weighted sums over the neighbourhood
            count += 2 * (tokens * dim + kept * (gathered + 4 * dim * dims[level + 1]))
            tokens = kept
    sampling = 2 * heads * 4 * 3 + wide  # offsets and weights of four points a head, twice; values of the queries themselves
    mixed = 2 * 4 * 4  # four neighbours of four points, twice
    count += 4 * 2 * patches * wide * (sampling + mixed + 2 * wide + 2 * config.decoder_ffn_dim)
    return count + 3 * 2 * patches * wide * 64 * classes  # three heads


def test_survivors_are_shared_out_by_the_area_of_their_patches() -> None:
    survival = module("pictures.survival").survival
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 1
    labels[:8, 4:8] = 2  # half of one patch
    look = inspect(micro(), np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), device="cpu")
    kept = survival(labels, look, 3)
    assert kept.shape == (3, 5)
    assert kept[:, 0].tolist() == [31.5, 32, 0.5]
    assert kept[:, 1].tolist() == [31.5, 32, 0.5], "nothing is merged before the first stage"
    for place, stage in enumerate(look.stages):
        assert kept[:, place + 1].sum() == len(stage.positions_rc)
        right = (stage.positions_rc[:, 1] > 32).sum()
        assert kept[1, place + 1] == right


def test_a_collapse_is_seen() -> None:
    pytest.importorskip("matplotlib")
    rank = module("pictures.rank")
    image = np.random.default_rng(0).integers(0, 255, (160, 160), np.uint8)
    ranks = rank.ranks_of(micro(), image)
    assert list(ranks) == [f"stage {n}.1" for n in range(1, 5)] + [f"decoder {n}" for n in range(1, 5)]
    assert all(0 < value <= 1 for value in ranks.values())
    model = micro()
    torch.nn.init.zeros_(model.encoder.stages[2].merge.linear.weight)
    collapsed = rank.ranks_of(model, image)
    assert collapsed["stage 3.1"] == ranks["stage 3.1"]
    assert collapsed["stage 4.1"] < 0.2 < ranks["stage 4.1"]


def test_scores_over_operations_are_those_of_one_setting() -> None:
    pytest.importorskip("matplotlib")
    trial = module("comparison.trial")

    def line(method: str, miou: float, **changes: object) -> dict:
        return trial.line(trial.Trial(method, **changes), {"miou": miou}, torch.device("cpu"), "abc")

    of_interest = [line(method, 0.7, tile=tile) for method in ("affmae", "vit-mae") for tile in (256, 512)]
    slow = line("affmae", 0.2, settings={"pretrain.learning_rate": 1e-4})
    others = [slow, line("affmae", 0.1, labels=1), line("affmae", 0.2, paint="scribbles"), line("unet", 0.3, tile=512)]
    scores = module("pictures.operations").scores_by_side([*others, *of_interest])
    assert scores == {method: {256: [pytest.approx(70)], 512: [pytest.approx(70)]} for method in ("affmae", "vit-mae")}
    assert module("pictures.operations").scores_by_side(others) == {}


@pytest.mark.parametrize(("most", "expected"), [(644, 500), (199, 100), (2.5, 2), (1000, 1000), (0.07, 0.05)])
def test_scale_bars_have_round_lengths(most: float, expected: float) -> None:
    pytest.importorskip("matplotlib")
    assert module("pictures.style").round_length(most) == pytest.approx(expected)


def test_curves_are_means_of_what_was_logged() -> None:
    pytest.importorskip("matplotlib")
    smoothed = module("pictures.curves").smoothed
    np.testing.assert_allclose(smoothed(np.full(500, 3.0)), 3)
    line = np.arange(500.0)
    np.testing.assert_allclose(smoothed(line)[5:-5], line[5:-5])
    np.testing.assert_allclose(smoothed(line[:5]), line[:5])


@pytest.mark.slow
def test_every_figure_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "data" / "em_isbi2012"
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for name in ("a", "b"):
        imsave(folder / "images" / f"{name}.png", rng.integers(0, 255, (64, 64), np.uint8), check_contrast=False)
        imsave(folder / "labels" / f"{name}.png", rng.integers(0, 2, (64, 64), np.uint8), check_contrast=False)
    (folder / "split.csv").write_text("file,split\na.png,val\nb.png,val\n")
    run = tmp_path / "run"
    for place in (run, tmp_path / "pair"):
        place.mkdir()
        for name in ("model", "with", "without"):
            save_model(micro(), place / f"{name}.safetensors")
    logged = [{"step": step, "res2": 1 / step, "res4": 2 / step, "res5": 3 / step} for step in range(1, 9)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged))
    trial = module("comparison.trial")
    lines = module("comparison.lines")
    for changes in ({}, {"tile": 512}, {"minutes": 5.0}, {"labels": 1}, {"labels": None, "paint": "scribbles"}):
        chosen = trial.Trial("affmae", preset="tiny", **changes)
        figures = {"miou": 0.5, "iou": {"a": 0.5}, "boundary_f1": None}
        lines.append_line(tmp_path / "lines.jsonl", trial.line(chosen, figures, torch.device("cpu"), "abc"))
    words = ["--root", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--dataset", "em_isbi2012", "--preset", "tiny"]
    inputs = [
        "--model",
        str(run),
        "--pair",
        str(tmp_path / "pair"),
        "--run",
        str(run),
        "--lines",
        str(tmp_path / "lines.jsonl"),
    ]
    monkeypatch.setattr(sys, "argv", ["figures.py", *words, *inputs])
    assert module("figures").main() == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{name}.png" for name in ("tokens", "features", "rank", "operations", "curves", "patience", "labels")}
    monkeypatch.setattr(sys, "argv", ["figures.py", *words, "--out", str(tmp_path / "few")])
    assert module("figures").main() == 0
    assert [path.name for path in (tmp_path / "few").iterdir()] == ["operations.png"]
    assert "tokens: not drawn, give a model with --model" in capsys.readouterr().err


def test_asymmetry_is_what_a_raster_has_of_one_side() -> None:
    places = module("token_places")
    centre = np.pad(np.full((2, 2), 3.0), 1, constant_values=0.5)
    assert places.asymmetry(centre) == pytest.approx(0)
    ramp = np.tile([0.5, 0.8, 1.2, 1.5], (4, 1))
    assert places.asymmetry(ramp) == pytest.approx(ramp.std())
    counted = places.rasters(micro(), torch.randn(1, 64, 64))
    assert counted.shape == (3, 4, 4)
    np.testing.assert_allclose(counted.mean(axis=(1, 2)), 1)
