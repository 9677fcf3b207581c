"""The average of the weights: it is what is scored and saved, training goes on from the weights themselves, and it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_affmae.config import Budget, FinetuneConfig
from napari_affmae.control import JobControl
from napari_affmae.data.labels import LabelledImage
from napari_affmae.engine.average import WeightAverage
from napari_affmae.engine.checkpoint import load_checkpoint
from napari_affmae.engine.finetune import finetune
from napari_affmae.events import Progress
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import load_model


@pytest.fixture
def mae(micro: object) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(micro)


def test_it_is_the_mean_that_was_asked_for() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(layer, decay=0.5)
    expected = layer.weight.item()
    for step in range(1, 40):
        with torch.no_grad():
            layer.weight.fill_(step)
        average.update(step)
        keep = min(0.5, step / (step + 9))
        expected = keep * expected + (1 - keep) * step
    assert average.state()["weight"].item() == pytest.approx(expected, rel=1e-5)
    with average.shown():
        assert layer.weight.item() == pytest.approx(expected, rel=1e-5)
    assert layer.weight.item() == 39


def test_the_weights_come_back_after_an_error() -> None:
    layer = torch.nn.Linear(2, 2)
    average = WeightAverage(layer, decay=0.9)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)

    def fail() -> None:
        with average.shown():
            assert torch.equal(layer.weight, before)
            raise KeyError("no score")

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(layer.weight, before + 1)


def test_the_run_saves_the_average_and_trains_on_with_the_weights(
    mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig, tmp_path: Path
) -> None:
    losses = {}
    for name, decay in (("plain", 0.0), ("averaged", 0.9)):
        events = finetune(mae, examples, tmp_path / name, finetuning.replace(average=decay, held_out=0.3), num_classes=2)
        losses[name] = [event.loss for event in events if isinstance(event, Progress)]
    assert losses["plain"] == losses["averaged"], "averaging watches, and changes no step"
    saved = {name: load_model(tmp_path / name).state_dict() for name in losses}
    kept = load_checkpoint(tmp_path / "averaged" / "checkpoint.safetensors", "finetune")
    weight = "heads.res2.linear.weight"
    assert torch.equal(kept.weights[weight], saved["plain"][weight])
    assert torch.equal(kept.average[weight], saved["averaged"][weight])
    assert not torch.equal(saved["plain"][weight], saved["averaged"][weight])


def test_a_resumed_run_ends_with_the_same_average(
    mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig, tmp_path: Path
) -> None:
    config = finetuning.replace(average=0.9)
    list(finetune(mae, examples, tmp_path / "whole", config, num_classes=2))
    control = JobControl()
    for event in finetune(mae, examples, tmp_path / "cut", config, num_classes=2, control=control):
        if isinstance(event, Progress) and event.step == 3:
            control.stop()
    list(finetune(mae, examples, tmp_path / "cut", config.replace(budget=Budget(steps=6)), num_classes=2, resume=True))
    whole, cut = (load_model(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
