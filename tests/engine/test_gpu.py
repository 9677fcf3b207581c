"""The same jobs on a graphics card: mixed precision, reading ahead, decisions that stay on the device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_affmae.config import Budget, FinetuneConfig, PretrainConfig
from napari_affmae.control import JobControl
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.records import ImageCollection
from napari_affmae.engine.finetune import finetune
from napari_affmae.engine.inspect import inspect
from napari_affmae.engine.pretrain import pretrain
from napari_affmae.engine.segment import segment
from napari_affmae.events import Done, Notice, Progress, Started
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import load_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_pretrain_resume_finetune_segment_inspect(
    tmp_path: Path,
    collection: ImageCollection,
    examples: list[LabelledImage],
    pretraining: PretrainConfig,
    finetuning: FinetuneConfig,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = pretraining.replace(device="cuda", budget=Budget(steps=60), learning_rate=3e-3)
    control = JobControl()
    first = []
    for event in pretrain(collection, tmp_path / "mae", config, control=control):
        first.append(event)
        if isinstance(event, Progress) and event.step == 30:
            control.stop()
    second = list(pretrain(collection, tmp_path / "mae", config, resume=True))
    assert [event.start_step for event in second if isinstance(event, Started)] == [30]
    losses = [event.loss for event in (*first, *second) if isinstance(event, Progress)]
    assert len(losses) == 60
    assert losses[-1] < 0.8 * losses[0]

    events = list(
        finetune(tmp_path / "mae", examples, tmp_path / "run", finetuning.replace(device="cuda", budget=Budget(steps=80)))
    )
    assert isinstance(events[-1], Done)
    image = examples[0].record.read()
    on_gpu, on_cpu = (segment(tmp_path / "run", image, device=device) for device in ("cuda", "cpu"))
    assert (on_gpu.labels == on_cpu.labels).mean() > 0.95
    assert (on_gpu.labels == examples[0].labels).mean() > 0.8
    assert len(inspect(tmp_path / "run", image, device="cuda").stages) == 4
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_step_without_a_finite_loss_is_left_out_on_the_device(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = MaskedAutoencoder.forward
    count = iter(range(10**6))

    def spoilt(self: MaskedAutoencoder, images: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, images, *args, **kwargs)
        if self.training and next(count) == 3:
            return dataclasses.replace(output, loss=output.loss * float("nan"))
        return output

    monkeypatch.setattr(MaskedAutoencoder, "forward", spoilt)
    events = list(pretrain(collection, tmp_path, pretraining.replace(device="cuda", budget=Budget(steps=40))))
    assert isinstance(events[-1], Done)
    assert events[-1].summary["left_out_steps"] == 1
    assert any("not finite" in event.message for event in events if isinstance(event, Notice))
    assert all(torch.isfinite(value).all() for value in load_model(tmp_path).state_dict().values())
    assert np.isfinite(events[-1].summary["loss"])
