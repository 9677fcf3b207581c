"""Model files: what goes in comes out, and a damaged or foreign file says what it is."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_affmae import MaskedAutoencoder, ModelConfig, Segmenter, load_model, load_reference_checkpoint, save_model
from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.errors import ModelFileError, StorageError
from napari_affmae.model_header import CHECKPOINT_KEY, KEY, read_card

CONFIG = ModelConfig(
    patch_size=4,
    embed_dims=(8, 8, 8, 8),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
    neighbourhood=(8, 8, 8, 8),
    decoder_dim=8,
    decoder_heads=1,
)
CARD = ModelCard(
    normalisation=Normalisation(low=(0.0,), high=(255.0,), mean=(120.5,), std=(30.25,)),
    pixel_size=PixelSize(y=4.6, x=4.6, unit="nanometer"),
    classes=(ClassInfo(id=1, name="membrane", color="#ff8800"), ClassInfo(id=4, name="Mitochondrien ü", color="#0088ff")),
    tile=256,
)


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    model = Segmenter(CONFIG, 2)
    model.card = CARD
    return model.eval()


@torch.no_grad()
def test_round_trip(segmenter: Segmenter, tmp_path: Path) -> None:
    path = save_model(segmenter, tmp_path / "deep" / "mine.safetensors", job="finetune", images=4)
    loaded = load_model(path)
    assert isinstance(loaded, Segmenter)
    assert not loaded.training
    assert loaded.config == CONFIG
    assert loaded.card.classes == CARD.classes
    assert loaded.card.history[-1]["job"] == "finetune"
    assert {"date", "version"} <= set(loaded.card.history[-1])
    picture = torch.randn(1, 1, 20, 24)
    assert torch.equal(loaded(picture).logits, segmenter(picture).logits)
    assert [item.name for item in path.parent.iterdir()] == ["mine.safetensors"], "nothing else is left behind"


@torch.no_grad()
def test_a_file_from_before_layers_were_joined(segmenter: Segmenter, tmp_path: Path) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    points = CONFIG.decoder_heads * 4
    parts = {
        ".attention.qkv.": ([".attention.q.", ".attention.kv."], [8, 16]),
        ".self_attention.sampling.": (
            [f".self_attention.{n}." for n in ("sampling_offsets", "mixing", "value")],
            [2 * points, points, 8],
        ),
        ".cross_attention.sampling.": (
            [f".cross_attention.{n}." for n in ("sampling_offsets", "mixing")],
            [2 * points, points],
        ),
    }
    weights = safetensors.torch.load_file(path)
    for whole, (names, rows) in parts.items():
        joined = [name for name in weights if whole in name and (whole != ".attention.qkv." or "encoder" in name)]
        assert joined
        for name in joined:
            rest = weights.pop(name).split(rows)
            weights |= {name.replace(whole, part): value.clone() for part, value in zip(names, rest, strict=True)}
    safetensors.torch.save_file(weights, path, metadata=metadata)
    picture = torch.randn(1, 1, 20, 24)
    assert torch.equal(load_model(path)(picture).logits, segmenter(picture).logits)


def test_a_run_folder_is_a_model(segmenter: Segmenter, tmp_path: Path) -> None:
    save_model(segmenter, tmp_path)
    assert load_model(tmp_path).card == CARD


def test_the_header_is_readable_alone(tmp_path: Path) -> None:
    header = read_card(save_model(MaskedAutoencoder(CONFIG), tmp_path / "m.safetensors"))
    assert (header.kind, header.num_classes, header.config) == ("mae", None, CONFIG)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no model at .*give a model file or a run folder"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match=r"expected a file model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(segmenter: Segmenter, tmp_path: Path, part: float) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ModelFileError, match="damaged"):
        load_model(path)


def test_somebody_else_s_file(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="was not written by napari-affmae"):
        load_model(path)
    path.write_text("hello, I am a text")
    with pytest.raises(ModelFileError, match="damaged or not a safetensors file"):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.safetensors", b"PK\x03\x04 and so on", "is a zip file: .* load the .safetensors that it was made from"),
        ("m.pth", b"\x80\x02 a pickle", r"another program: .* \.pth of the paper is brought in with .* import-checkpoint"),
        ("m.h5", b"\x89HDF\r\n", "another program: choose a .safetensors file"),
        ("m.safetensors", b"", "damaged or not a safetensors file .*: copy it again .* or save the model again"),
    ],
)
def test_a_foreign_file_says_what_to_do(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        load_model(tmp_path / name)


def test_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    safetensors.torch.save_file({"model.weight": torch.zeros(2)}, path, metadata={CHECKPOINT_KEY: "{}"})
    with pytest.raises(ModelFileError, match=r"a run's checkpoint and no model: choose model\.safetensors beside it"):
        load_model(path)


@pytest.mark.parametrize("seed", range(40))
def test_a_header_that_was_tampered_with(segmenter: Segmenter, tmp_path: Path, seed: int) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    weights = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[KEY])
    rng = np.random.default_rng(seed)
    there = header
    while True:  # go down to some value and replace it
        key = list(there)[rng.integers(len(there))] if isinstance(there, dict) else int(rng.integers(len(there)))
        if not isinstance(there[key], dict | list) or not there[key] or rng.random() < 0.2:
            break
        there = there[key]
    there[key] = [None, -7, "word", [], {}, 3, 1e9, ["a"], {"b": 1}][rng.integers(9)]
    safetensors.torch.save_file(weights, path, metadata={KEY: json.dumps(header)})
    # Either it still is a model, or the error is one that says what to do; never a traceback of another kind.
    with suppress(ModelFileError):
        assert load_model(path).card.tile


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": CARD.classes[:1]}, "1 names for 2 classes"),
        ({"normalisation": Normalisation(low=(0, 0), high=(1, 1), mean=(0, 0), std=(1, 1))}, "statistics of 2 channels for 1"),
    ],
)
def test_a_card_of_another_network(segmenter: Segmenter, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    segmenter.card = segmenter.card.replace(**change)
    path = save_model(segmenter, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=f"does not fit its network \\({message}\\): save the model again"):
        load_model(path)


def test_weights_of_another_network(segmenter: Segmenter, tmp_path: Path) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(ModelFileError, match="damaged or do not fit its settings"):
        load_model(path)


def test_a_full_disk_keeps_the_old_file(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device; free some space"):
        save_model(segmenter, path, note="again")
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]
    assert segmenter.card == CARD, "nothing is recorded of a save that failed"


def test_provenance_must_be_plain(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="JSON-able"):
        save_model(segmenter, tmp_path / "m.safetensors", data=np.zeros(3))
    assert segmenter.card == CARD


WITHOUT_CONVOLUTION = {
    **{f"encoder.norms.{level}.weight": torch.zeros(8) for level in range(4)},
    **{f"encoder.layers.{level}.blocks.0.attn.pos_embed.weight": torch.zeros(1, 5) for level in range(4)},
    "cross_attention_decoder.input_proj.0.0.weight": torch.zeros(16, 8),
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a PyTorch checkpoint"),
        (b"not a checkpoint at all", "cannot be read as a PyTorch checkpoint"),
        ({"model": {"weight": torch.zeros(1)}}, "not a checkpoint of the paper's model"),
        ([1, 2], "holds a list, expected a dict of tensors"),
        (WITHOUT_CONVOLUTION, r"no tensor for patch_embedding\.convolutions\.0\.weight"),
        (WITHOUT_CONVOLUTION | {"encoder.patch_embed.projs.0.weight": torch.zeros(1)}, r"no tensor for patch_embedding"),
    ],
)
def test_reference_checkpoints_that_are_none(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelFileError, match=message):
        load_reference_checkpoint(path)


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Trap()}, tmp_path / "c.pth")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_reference_checkpoint(tmp_path / "c.pth")
    assert not (tmp_path / "ran").exists()
