"""The same jobs on a graphics card: mixed precision, reading ahead, decisions that stay on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_affmae.config import Budget, FinetuneConfig, LiveConfig, PretrainConfig
from napari_affmae.control import JobControl, LiveControl
from napari_affmae.data.classes import default_classes
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.data.synthetic import synthetic_em
from napari_affmae.engine import pretrain as training
from napari_affmae.engine import recording
from napari_affmae.engine.finetune import finetune
from napari_affmae.engine.inspect import inspect
from napari_affmae.engine.live import LiveSession
from napari_affmae.engine.live_request import LiveRequest
from napari_affmae.engine.predictor import Predictor
from napari_affmae.engine.pretrain import pretrain
from napari_affmae.engine.segment import segment
from napari_affmae.events import Done, LivePrediction, LiveRound, Notice, Progress, Started
from napari_affmae.model.model_file import load_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

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
    whole = training.augment
    count = iter(range(10**6))

    def spoilt(images: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        images, labels = whole(images, *args, **kwargs)
        return images * (float("nan") if next(count) == 3 else 1.0), labels

    monkeypatch.setattr(training, "augment", spoilt)
    events = list(pretrain(collection, tmp_path, pretraining.replace(device="cuda", budget=Budget(steps=40))))
    assert isinstance(events[-1], Done)
    assert events[-1].summary["left_out_steps"] == 1
    assert any("not finite" in event.message for event in events if isinstance(event, Notice))
    assert all(torch.isfinite(value).all() for value in load_model(tmp_path).state_dict().values())
    assert np.isfinite(events[-1].summary["loss"])


def test_replayed_steps_are_the_steps_made_call_by_call(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pretraining.replace(device="cuda", budget=Budget(steps=12))
    replayed = [event.loss for event in pretrain(collection, tmp_path / "replayed", config) if isinstance(event, Progress)]
    monkeypatch.setattr(recording, "can_record", lambda _: False)
    called = [event.loss for event in pretrain(collection, tmp_path / "called", config) if isinstance(event, Progress)]
    assert replayed[-1] == pytest.approx(called[-1], rel=2e-3)
    names = load_model(tmp_path / "called").state_dict()
    for name, value in load_model(tmp_path / "replayed").state_dict().items():
        assert (value - names[name]).norm() <= 0.02 * names[name].norm() + 1e-3, name


def test_predictions_are_replayed_for_tiles_of_one_shape(pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Segmenter(pretraining.model, 3).to("cuda")
    predictor = Predictor(model, torch.device("cuda", 0))
    tiles = np.random.default_rng(0).normal(size=(5, 1, 48, 64)).astype(np.float32)
    first, *others = [predictor(tiles) for _ in range(4)]
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)
    two, again, other = predictor(tiles[:2]), predictor(tiles[:2]), predictor(tiles[2:4])
    monkeypatch.setattr(recording, "can_record", lambda _: False)
    called = Predictor(model, torch.device("cuda", 0))
    np.testing.assert_allclose(called(tiles), first, atol=1e-5)
    np.testing.assert_allclose(called(tiles[:2]), two, atol=1e-5)
    np.testing.assert_allclose(called(tiles[:2]), again, atol=1e-5)
    np.testing.assert_allclose(called(tiles[2:4]), other, atol=1e-5)


def test_live_rounds_on_a_card_predict_what_the_cpu_predicts() -> None:
    """Large enough that every search goes the ways of the card: first only built, then computed, then replayed."""
    image, truth = synthetic_em(256, 0)[:2]
    images = collection_from_arrays({"em": image})
    shown = {}
    for device in ("cuda", "cpu"):
        session = LiveSession("scratch:tiny", default_classes((1, 2)), images, LiveConfig(device=device, tile=128))
        control = LiveControl()
        list(session.round(LiveRequest(0, [], images.records[0]), control))
        for generation, height in enumerate((40, 80), start=1):
            control.supersede(generation)
            paint = np.zeros(truth.shape, np.uint8)
            paint[8:height, 8:200] = np.minimum(truth[8:height, 8:200], 1) + 1
            labels = np.zeros(truth.shape, np.uint8)
            events = list(
                session.round(LiveRequest(generation, [LabelledImage(images.records[0], paint)], images.records[0]), control)
            )
            for event in events:
                if isinstance(event, LivePrediction):
                    height, width = event.labels.shape
                    labels[event.top : event.top + height, event.left : event.left + width] = event.labels
            [done] = [event for event in events if isinstance(event, LiveRound)]
            assert done.loss_after < done.loss_before
        shown[device] = labels
    assert (shown["cuda"] == shown["cpu"]).mean() > 0.95


def test_tokens_chosen_among_neighbours_train_on_a_card(tmp_path: Path) -> None:
    images = collection_from_arrays({"em": synthetic_em(256, 0)[0]})
    config = PretrainConfig(
        model=ModelConfig.preset("tiny", selection="local"), budget=Budget(steps=30), tile=256, batch=2, device="cuda"
    )
    losses = [event.loss for event in pretrain(images, tmp_path, config) if isinstance(event, Progress)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_a_recording_that_goes_leaves_the_others_alone() -> None:
    """Large products need cuBLAS' workspace, and torch gives back that of the stream that was recorded on."""
    if not recording.can_record(torch.device("cuda")):
        pytest.skip("nothing is recorded on this card")
    generator = torch.Generator("cuda").manual_seed(0)
    left, right = (torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16, generator=generator) for _ in range(2))

    def product(arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return (arguments[0] @ arguments[1]).float().sum(0)

    kept = recording.Repeated(product, product, torch.device("cuda"))
    for _ in range(3):
        expected = kept((left, right)).clone()
    for side in range(1024, 1064):  # more recordings than torch has streams
        other = recording.Repeated(product, product, torch.device("cuda"))
        for _ in range(3):
            other((left[:side, :side].contiguous(), right[:side, :side].contiguous()))
        other.forget()
        torch.cuda.empty_cache()
    filled = [torch.full((2**24,), float("nan"), device="cuda") for _ in range(16)]
    torch.testing.assert_close(kept((left, right)), expected, rtol=0, atol=0)
    assert all(bool(part.isnan().all()) for part in filled), "a replay wrote into memory of others"
    kept.forget()
