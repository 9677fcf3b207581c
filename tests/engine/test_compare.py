"""The comparison with a network from scratch is a fair one, and says what came out, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_affmae.card import ModelCard
from napari_affmae.config import Budget, FinetuneConfig
from napari_affmae.control import JobControl
from napari_affmae.data.classes import default_classes
from napari_affmae.data.labels import LabelledImage
from napari_affmae.engine.compare import Comparison, compare
from napari_affmae.engine.finetune import finetune
from napari_affmae.errors import LabelError
from napari_affmae.events import Done, Event, Notice, PartBegun, Progress, Score
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig


@pytest.fixture
def mae(micro: ModelConfig) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(micro)


def last(events: list[object]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def test_both_start_as_they_should_and_see_the_same(
    mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig, tmp_path: Path
) -> None:
    events = list(compare(mae, examples, tmp_path / "both", finetuning))
    result = last(events).result
    assert isinstance(result, Comparison)
    alone = [event for event in finetune(mae, examples, tmp_path / "alone", finetuning) if isinstance(event, Score)]
    assert result.pretrained.iou == alone[-1].iou
    assert result.pretrained.pixels == result.scratch.pixels
    assert result.pretrained.miou != result.scratch.miou
    assert sum(isinstance(event, Done) for event in events) == 1
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == pytest.approx([step / 12 for step in range(1, 13)])
    assert last(events).summary["gain"] == pytest.approx(result.pretrained.miou - result.scratch.miou)


def test_the_time_left_is_that_of_both(
    mae: MaskedAutoencoder,
    examples: list[LabelledImage],
    finetuning: FinetuneConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def quick(*given: object, **settings: object) -> Iterator[Event]:
        yield Progress("finetune", 1, 4, 0.25, 1.0, {}, 1e-3, 8.0, 30.0, 10.0)
        yield Score("finetune", 1, 0.5, {}, 10)
        yield Done("finetune", 4, None)

    monkeypatch.setattr("napari_affmae.engine.compare.finetune", quick)
    left = [event.eta_seconds for event in compare(mae, examples, tmp_path, finetuning) if isinstance(event, Progress)]
    assert left == [30 + 40, 30]


def test_a_comparison_goes_forwards_only(
    mae: MaskedAutoencoder,
    examples: list[LabelledImage],
    finetuning: FinetuneConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on_strokes(*given: object, **settings: object) -> Iterator[Event]:
        yield Progress("finetune", 4, 4, 1.0, 1.0, {}, 1e-3, 8.0, 40.0, 0.0)
        for fitted in (0.0, 0.8):
            yield PartBegun("finetune", "fitting a readout", fitted)
        yield Score("finetune", 4, 0.5, {}, 10)
        yield Done("finetune", 4, None)

    monkeypatch.setattr("napari_affmae.engine.compare.finetune", on_strokes)
    shown = [event for event in compare(mae, examples, tmp_path, finetuning) if isinstance(event, PartBegun | Progress)]
    assert [event.fraction for event in shown] == [0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1]
    assert [event.what for event in shown if isinstance(event, PartBegun)][1:3] == [
        "fitting a readout 0%",
        "fitting a readout 80%",
    ]


def test_a_network_that_knows_classes_starts_with_new_heads_and_a_warning(
    micro: ModelConfig, examples: list[LabelledImage], finetuning: FinetuneConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Segmenter(micro, 2)
    network.card = ModelCard(classes=default_classes((0, 1)))
    events = list(compare(network, examples, tmp_path, finetuning))
    assert sum(isinstance(event, Notice) and "perhaps from these very labels" in event.message for event in events) == 1
    assert isinstance(last(events).result, Comparison)


def test_too_little_paint(
    mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig, tmp_path: Path
) -> None:
    paint = np.zeros_like(examples[0].labels)
    paint[4, 4:7], paint[40, 40:43] = 1, 2
    seen: list[object] = []
    with pytest.raises(LabelError, match="paint a little more"):
        seen.extend(compare(mae, [LabelledImage(examples[0].record, paint)], tmp_path, finetuning, sparse=True))
    assert not any(isinstance(event, Progress) for event in seen), "it is said before anything is trained"


def test_a_stop_ends_both(
    mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig, tmp_path: Path
) -> None:
    control = JobControl()
    seen = []
    for event in compare(mae, examples, tmp_path, finetuning.replace(budget=Budget(steps=50)), control=control):
        seen.append(event)
        if isinstance(event, Progress) and event.step == 2:
            control.stop()
    assert last(seen).stopped
    assert last(seen).result is None
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("ours", "theirs", "held_out", "word"),
    [
        (0.7, 0.6, "strokes", "helped"),
        (0.6, 0.7, "strokes", "did not help"),
        (0.66, 0.6, "strokes", "No clear difference"),
        (0.6, 0.66, "strokes", "No clear difference"),
        (0.66, 0.6, "blocks", "helped"),
        (0.66, 0.6, "images", "helped"),
        (0.63, 0.6, "blocks", "No clear difference"),
    ],
)
def test_the_verdict_is_honest(ours: float, theirs: float, held_out: str, word: str) -> None:
    def score(miou: float) -> Score:
        return Score("finetune", 1, miou, {}, 10)

    verdict = Comparison(score(ours), score(theirs), held_out).verdict
    assert word in verdict
    assert f"{ours:.2f}" in verdict
    assert f"{theirs:.2f}" in verdict
    on = {"strokes": "whole strokes", "blocks": "blocks of pixels", "images": "whole images"}[held_out]
    assert f"on 10 labelled pixels kept back from both ({on}; " in verdict
    assert f"one training each, and seeds alone differ by up to about {'0.08' if held_out == 'strokes' else '0.05'}" in verdict
