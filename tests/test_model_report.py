"""A model's card in words: what is known is said, what is strange is left out, and nothing makes it fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_affmae import ModelConfig, Segmenter, save_model
from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.model_header import read_card
from napari_affmae.model_report import ModelReport, as_json, report
from napari_affmae.report_text import as_markdown, as_text, sparkline

MICRO = ModelConfig(
    patch_size=4, embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), neighbourhood=(8, 8, 8, 8),
    decoder_dim=8, decoder_heads=1,
)  # fmt: skip
PRETRAINED = {
    "job": "pretrain", "date": "2026-03-01T12:30:00+00:00", "version": "0.1.0", "images": 110, "seconds": 480.0, "steps": 1040,
    "names": [f"em_{number}.png" for number in range(20)], "figures": {"batch": 64},
    "data": {"images": {"count": 110, "digest": "ab" * 16, "hashes": ["11", "22"]}},
    "versions": {"napari-affmae": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
    "settings": {"learning_rate": 5e-4, "tile": 256, "seed": 0}, "curve": {"steps": [10, 20, 30], "losses": [1.0, 0.5, 0.25]},
}  # fmt: skip
FINETUNED = {
    "job": "finetune", "images": 1, "names": ["a.png"], "steps": 400,
    "figures": {
        "held_out_miou": 0.625, "held_out_iou": {"membrane": 0.75, "inside": 0.5}, "held_out_pixels": 12_345,
        "held_out": "images", "held_out_step": 400, "painted_pixels": [100, 200],
        "classes_from": "readout",
    },
    "data": {"images": {"count": 1, "digest": "cd" * 16, "hashes": ["33"]}, "labels": {"digest": "ef" * 16}},
}  # fmt: skip


def card(*history: dict[str, Any]) -> ModelCard:
    return ModelCard(
        normalisation=Normalisation(low=(0.0,), high=(255.0,), mean=(120.0,), std=(30.0,)),
        pixel_size=PixelSize(y=4.6, x=4.6, unit="nanometer"),
        classes=(ClassInfo(id=1, name="membrane", color="#ff0000"), ClassInfo(id=2, name="inside", color="#00ff00")),
        tile=256,
        history=history,
    )


@pytest.fixture
def made(tmp_path):
    """Return a function that saves a segmenter with a history and reads its report."""

    def make(*history: dict[str, Any]) -> ModelReport:
        model = Segmenter(MICRO, 2)
        model.card = card(*history)
        return report(save_model(model, tmp_path / "m.safetensors"))

    return make


LIVE = {
    "job": "live", "images": 1, "figures": {"rounds": 12},
    "curve": {"steps": [1, 2, 12], "losses": [0.5, 0.25, 0.125], "unit": "round"},
}  # fmt: skip


def test_live_mode_counts_rounds(made) -> None:
    found = made(PRETRAINED, LIVE)
    assert [training.unit for training in found.trainings] == ["step", "round"]
    text = as_text(found)
    assert "rounds       12" in text
    assert "0.5 → 0.125" in text
    assert "0.5 at round 1, 0.125 at the end" in as_markdown(found)


def test_the_text_says_what_was_done_and_how_good_it_is(made) -> None:
    text = as_text(made(PRETRAINED, FINETUNED))
    for part in (
        "Segmentation network, 2 classes: membrane, inside",
        "4.6 nm",
        "1  Pretrained on 110 images without labels",
        "2026-03-01 12:30, took 8:00 min",
        "em_0.png, em_1.png, em_2.png and 107 more",
        "abababababababababababababababab (2 of 110 images were read)",
        "1 → 0.25",
        "torch 2.13.0, python 3.11.7",
        "2  Trained on 1 image with labels",
        "mIoU 0.62 on 12\u202f345 labelled pixels kept back from training (whole images) after step 400",
        "membrane  0.75",
        "300 pixels",
        "a readout of single pixels, fitted to the strokes",
    ):
        assert part in text, part


def test_only_the_last_training_has_a_say_about_the_score(made) -> None:
    assert made(PRETRAINED, FINETUNED).score.miou == 0.625
    assert made(FINETUNED, {**FINETUNED, "figures": {}}).score is None
    assert made().score is None
    assert "does not say what was done" in as_text(made())


def test_json_holds_the_whole_card(made) -> None:
    found = made(PRETRAINED, FINETUNED)
    whole = as_json(found, read_card(found.path))
    assert whole["card"]["history"] == [PRETRAINED, FINETUNED]
    assert whole["score"]["iou"] == {"membrane": 0.75, "inside": 0.5}
    assert (whole["kind"], whole["num_classes"]) == ("segmenter", 2)


def test_markdown_has_the_section_that_the_zoo_wants(made) -> None:
    assert "\n## Validation\n" in as_markdown(made(FINETUNED))
    assert "| membrane | 0.750 |" in as_markdown(made(FINETUNED))
    assert "\n## Validation\n" in as_markdown(made())


def test_the_number_of_parameters_is_that_of_the_network(made) -> None:
    expected = sum(value.numel() for value in Segmenter(MICRO, 2).state_dict().values())
    assert dict(made().facts)["network"].startswith(f"{expected / 1e6:.1f} million")


@pytest.mark.parametrize("seed", range(20))
def test_strange_records_are_left_out(made, seed: int) -> None:
    rng = np.random.default_rng(seed)
    strange = [None, -3, 1e400, "word", [], {}, [None, "x", 2.5], {"steps": "no"}, True, [[1], {"a": 2}]]

    def spoil(value: Any) -> Any:
        if rng.random() < 0.25:
            return strange[rng.integers(len(strange))]
        if isinstance(value, dict):
            return {key: spoil(part) for key, part in value.items()}
        return [spoil(part) for part in value] if isinstance(value, list) else value

    records = [spoil(record) for record in (PRETRAINED, FINETUNED)]
    found = made(*(record if isinstance(record, dict) else {} for record in records))
    assert as_text(found)
    assert as_markdown(found)


@pytest.mark.parametrize(("values", "expected"), [((1.0,), "▁"), ((2.0, 2.0), "▁▁"), ((0.0, 1.0), "▁█"), ((3, 2, 1), "█▅▁")])
def test_sparkline(values: tuple[float, ...], expected: str) -> None:
    assert sparkline(values) == expected
    assert len(sparkline(tuple(range(1000)))) == 24
