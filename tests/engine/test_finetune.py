"""Finetuning from paint: it learns, it resumes, only paint counts, and bad labels are refused in words."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.config import Budget, FinetuneConfig
from napari_affmae.control import JobControl
from napari_affmae.data.image_cache import ImageCache
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.lazy_plane import LazyPlane
from napari_affmae.data.records import Skipped
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine import finetune as finetune_module
from napari_affmae.engine import loop
from napari_affmae.engine import losses as losses_module
from napari_affmae.engine.evaluate import evaluate
from napari_affmae.engine.finetune import finetune
from napari_affmae.engine.image_fit import check_range
from napari_affmae.engine.segment import rescaling
from napari_affmae.engine.task import Task
from napari_affmae.errors import ConfigError, DataError, LabelError, ModelFileError, StorageError
from napari_affmae.events import CheckpointSaved, Done, Event, Notice, PartBegun, Progress, Score, Started
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import load_model, save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig
from napari_affmae.words import NOT_FITTED

STATISTICS = Normalisation(low=(0,), high=(255,), mean=(96,), std=(60,))


@pytest.fixture
def mae(micro: ModelConfig) -> MaskedAutoencoder:
    torch.manual_seed(0)
    model = MaskedAutoencoder(micro)
    model.card = ModelCard(normalisation=STATISTICS, pixel_size=PixelSize(y=8, x=8, unit="nanometer"), tile=48)
    return model


def losses(events: Iterable[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Progress)]


def messages(events: Iterable[Event]) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Notice))


def test_it_learns_blobs_from_a_few_strokes(
    tmp_path: Path, micro: ModelConfig, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    torch.manual_seed(0)
    strokes = np.zeros_like(examples[0].labels)
    for place in (np.s_[10:14], np.s_[60:64], np.s_[:, 40:44]):
        strokes[place] = examples[0].labels[place] + 1
    config = finetuning.replace(budget=Budget(steps=90), learning_rate=4e-3)
    events = list(
        finetune(MaskedAutoencoder(micro), [LabelledImage(examples[0].record, strokes)], tmp_path, config, sparse=True)
    )
    assert np.mean(losses(events)[-5:]) < 0.6 * losses(events)[0]
    truth = LabelledImage(examples[1].record, examples[1].labels + 1)
    result = evaluate(tmp_path, [truth], device="cpu")
    assert result.miou > 0.8
    assert result.majority_miou < 0.4


@pytest.fixture
def strokes(examples: list[LabelledImage]) -> LabelledImage:
    """Two strokes of each class, far apart: less than a tenth of the image."""
    paint = np.zeros_like(examples[0].labels)
    for rows in (np.s_[10:12], np.s_[60:62]):
        paint[rows] = examples[0].labels[rows] + 1
    return LabelledImage(examples[0].record, paint)


def test_strokes_end_with_a_readout_and_dense_labels_with_heads(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], strokes: LabelledImage, finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(budget=Budget(steps=2), held_out=0.0)
    until_known_by_heart = config.replace(budget=Budget(steps=60), learning_rate=4e-3)
    events = list(finetune(mae, [strokes], tmp_path / "strokes", until_known_by_heart, sparse=True))
    dense = LabelledImage(strokes.record, examples[0].labels + 1)
    assert events[-1].summary["classes_from"] == "readout"
    told = [event for event in events if isinstance(event, PartBegun)]
    assert {event.what for event in told} == {"fitting a readout to the strokes"}, "seconds in which no step is made"
    done_parts = [event.fraction for event in told]
    assert done_parts[0] == 0
    assert 0.8 < done_parts[-1] <= 1
    assert done_parts == sorted(done_parts)
    *_, done = finetune(mae, [dense], tmp_path / "dense", config, sparse=True)
    assert done.summary["classes_from"] == "heads"
    model = load_model(tmp_path / "strokes")
    assert isinstance(model, Segmenter)
    assert model.readout is not None
    assert model.readout.heads_share == 0, "heads know these strokes by heart"
    assert not any("readout" in name for name in load_model(tmp_path / "dense").state_dict())


@pytest.mark.parametrize("at", [0.0, 0.5, 0.8])
def test_fitting_a_readout_can_be_stopped_and_leaves_the_heads(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig, at: float
) -> None:
    control = JobControl()
    fractions = []
    config = finetuning.replace(budget=Budget(steps=2), held_out=0.0)
    for event in finetune(mae, [strokes], tmp_path, config, sparse=True, control=control):
        if isinstance(event, PartBegun):
            fractions.append(event.fraction)
            if event.fraction >= at:
                control.stop()
    assert isinstance(event, Done)
    assert event.stopped
    assert sum(fraction >= at for fraction in fractions) == 1, "it went on"
    assert event.summary["classes_from"] == NOT_FITTED
    model = load_model(tmp_path)
    assert isinstance(model, Segmenter)
    assert model.readout is None
    assert model.card.history[-1]["steps"] == 2
    assert model.card.history[-1]["figures"]["classes_from"] == NOT_FITTED
    # Nothing but the readout is left to do.
    resumed = list(finetune(mae, [strokes], tmp_path, config, sparse=True, resume=True))
    assert not any(isinstance(event, Progress) for event in resumed)
    assert resumed[-1].summary["classes_from"] == "readout"
    finished = load_model(tmp_path)
    assert isinstance(finished, Segmenter)
    assert finished.readout is not None
    straight = list(finetune(mae, [strokes], tmp_path / "straight", config, sparse=True))
    weights = load_model(tmp_path / "straight").state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in finished.state_dict().items())
    again = list(finetune(mae, [strokes], tmp_path, config, sparse=True, resume=True))
    assert not any(isinstance(event, PartBegun) for event in again), "it is done"
    assert again[-1].summary["classes_from"] == straight[-1].summary["classes_from"] == "readout"


def test_a_finished_network_stays_until_the_run_that_goes_on_has_fitted_another_readout(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig
) -> None:
    four = finetuning.replace(budget=Budget(steps=4), held_out=0.0)
    control = JobControl()
    for event in finetune(mae, [strokes], tmp_path, four, sparse=True, control=control):
        if isinstance(event, Progress) and event.step == 2:
            control.stop()
    finished = (tmp_path / "model.safetensors").read_bytes()
    control = JobControl()
    events = []
    for event in finetune(mae, [strokes], tmp_path, four, sparse=True, resume=True, control=control):
        events.append(event)
        if isinstance(event, PartBegun):
            control.stop()
    assert f"{tmp_path / 'model.safetensors'} stays the network of 2 steps" in messages(events)
    assert isinstance(event, Done)
    assert (event.step, event.summary["classes_from"]) == (4, NOT_FITTED)
    assert (tmp_path / "model.safetensors").read_bytes() == finished
    resumed = list(finetune(mae, [strokes], tmp_path, four, sparse=True, resume=True))
    assert not any(isinstance(event, Progress) for event in resumed), "nothing but the readout is left to do"
    assert "finished already" not in messages(resumed)
    list(finetune(mae, [strokes], tmp_path / "straight", four, sparse=True))
    weights = load_model(tmp_path / "straight").state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in load_model(tmp_path).state_dict().items())
    record, expected = (load_model(run).card.history[-1] for run in (tmp_path, tmp_path / "straight"))
    assert record["steps"] == 4
    assert record["curve"] == expected["curve"], "it has no hole where the model was not replaced"
    assert record["data"] == expected["data"]


def test_the_order_of_images_does_not_matter(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    one = losses(finetune(mae, examples, tmp_path / "one", finetuning))
    assert losses(finetune(mae, examples[::-1], tmp_path / "other", finetuning)) == one


def test_the_first_checkpoint_comes_sooner_than_the_others(
    tmp_path: Path,
    mae: MaskedAutoencoder,
    examples: list[LabelledImage],
    finetuning: FinetuneConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "FIRST_CHECKPOINT", 0.0)
    events = list(finetune(mae, examples, tmp_path, finetuning))
    assert [event.step for event in events if isinstance(event, CheckpointSaved)] == [1, 6]


def test_fitting_a_readout_costs_none_of_the_minutes(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(budget=Budget(steps=2), held_out=0.0)
    spent, parts = 0.0, 0
    for event in finetune(mae, [strokes], tmp_path, config, sparse=True):
        if isinstance(event, Progress):
            spent = event.elapsed_seconds
        if isinstance(event, PartBegun):
            parts += 1
            time.sleep(0.05)
    assert isinstance(event, Done)
    assert event.summary["seconds"] < spent + 0.04 * parts
    assert load_model(tmp_path).card.history[-1]["seconds"] < spent + 0.04 * parts


def test_a_finished_run_that_is_resumed_for_nothing_says_what_it_was(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(budget=Budget(steps=2), held_out=0.3)
    *_, first = finetune(mae, [strokes], tmp_path, config, sparse=True)
    *events, again = finetune(mae, [strokes], tmp_path, config, sparse=True, resume=True)
    assert "stays the network" not in messages(events)
    for name in ("classes_from", "held_out_miou", "painted_pixels"):
        assert again.summary[name] == first.summary[name]


@pytest.mark.parametrize(
    ("stops", "times", "classes_from"),
    [(Progress, 1, "readout"), (Progress | PartBegun, 1, NOT_FITTED), (Progress, 2, NOT_FITTED)],
)
def test_a_run_that_was_stopped_while_it_trained_gets_its_readout_unless_it_is_stopped_again(
    tmp_path: Path,
    mae: MaskedAutoencoder,
    strokes: LabelledImage,
    finetuning: FinetuneConfig,
    stops: Any,
    times: int,
    classes_from: str,
) -> None:
    control = JobControl()
    config = finetuning.replace(budget=Budget(steps=50), held_out=0.0)
    for event in finetune(mae, [strokes], tmp_path, config, sparse=True, control=control):
        if isinstance(event, stops):
            for _ in range(times):
                control.stop()
    assert isinstance(event, Done)
    assert event.stopped
    assert event.summary["classes_from"] == classes_from


def test_a_readout_does_not_change_what_training_goes_on_from(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(held_out=0.0)
    for name, stops in {"whole": (4,), "resumed": (2, 4)}.items():
        for stop in stops:
            budget = config.replace(budget=Budget(steps=stop), warmup=0.0)
            list(finetune(mae, [strokes], tmp_path / name, budget, sparse=True, resume=stop == 4 and len(stops) == 2))
    whole, resumed = (load_model(tmp_path / name) for name in ("whole", "resumed"))
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    assert len(load_model(tmp_path / "resumed").card.history) == 1


@pytest.mark.parametrize("better", ["heads", "readout"])
def test_the_paint_that_was_kept_back_chooses_between_heads_and_readout(
    tmp_path: Path,
    mae: MaskedAutoencoder,
    strokes: LabelledImage,
    finetuning: FinetuneConfig,
    monkeypatch: pytest.MonkeyPatch,
    better: str,
) -> None:
    def score(scorer: Any, step: int, predict: Any) -> Score:
        has_readout = predict._model.readout is not None
        return Score("finetune", step, 0.9 if has_readout == (better == "readout") else 0.1, {}, 1)

    monkeypatch.setattr(finetune_module.Scorer, "score", score)
    monkeypatch.setattr(finetune_module.Scorer, "__bool__", lambda scorer: True)
    events = list(finetune(mae, [strokes], tmp_path, finetuning.replace(budget=Budget(steps=2)), sparse=True))
    model = load_model(tmp_path)
    assert isinstance(model, Segmenter)
    assert (model.readout is not None) == (better == "readout")
    [done] = [event for event in events if isinstance(event, Done)]
    assert done.summary["held_out_miou"] == 0.9
    assert [event.miou for event in events if isinstance(event, Score)][-1] == 0.9


def test_the_score_of_heads_that_stay_is_told_where_training_was_stopped_between_scores(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(scorer: Any, step: int, predict: Any) -> Score:
        return Score("finetune", step, 0.1 if predict._model.readout is not None else 0.9, {}, 1)

    monkeypatch.setattr(finetune_module.Scorer, "score", score)
    monkeypatch.setattr(finetune_module.Scorer, "__bool__", lambda scorer: True)
    control, events = JobControl(), []
    for event in finetune(mae, [strokes], tmp_path, finetuning.replace(budget=Budget(steps=50)), sparse=True, control=control):
        events.append(event)
        if isinstance(event, Progress) and event.step == 2:
            control.stop()
    assert [(event.step, event.miou) for event in events if isinstance(event, Score)] == [(2, 0.9)]


def test_steps_are_saved_before_a_readout_that_fails(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise DataError("one.png vanished")

    monkeypatch.setattr(finetune_module, "stroke_readout", fail)
    with pytest.raises(DataError, match="vanished"):
        list(finetune(mae, [strokes], tmp_path, finetuning.replace(budget=Budget(steps=2)), sparse=True))
    assert load_model(tmp_path).card.history[-1]["steps"] == 2


def test_a_run_on_strokes_that_died_before_its_model_was_written_fits_its_readout_when_it_is_taken_up(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("napari_affmae.engine.loop.save_model", full)
        with pytest.raises(StorageError):
            list(finetune(mae, [strokes], tmp_path, finetuning, sparse=True))
    assert (tmp_path / "checkpoint.safetensors").is_file()
    assert not (tmp_path / "model.safetensors").exists()
    *_, done = finetune(mae, [strokes], tmp_path, finetuning, sparse=True, resume=True)
    assert isinstance(done, Done)
    assert done.summary["classes_from"] != NOT_FITTED
    assert load_model(tmp_path).card.history[-1]["figures"]["classes_from"] != NOT_FITTED


def test_an_image_that_is_lost_while_another_is_told_of_is_told_of_next() -> None:
    class Growing(list[Skipped]):
        def __getitem__(self, at: Any) -> Any:
            told = super().__getitem__(at)
            if len(self) == 1:
                self.append(Skipped("b.tif", "gone"))  # as a reading thread may
            return told

    lost, task = Growing([Skipped("a.tif", "gone")]), SimpleNamespace(job="finetune", _told_lost=0)
    told = [event.message for _ in range(3) for event in Task.left_out(task, lost)]
    assert ["a.tif" in told[0], "b.tif" in told[1], len(told)] == [True, True, 2]


def test_training_goes_on_without_an_image_that_vanished(
    tmp_path: Path,
    mae: MaskedAutoencoder,
    examples: list[LabelledImage],
    finetuning: FinetuneConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = ImageCache.__getitem__
    steps = 0

    def vanished(cache: ImageCache, index: int) -> Any:
        if steps >= 2 and index == 0:
            raise DataError("it vanished")
        return read(cache, index)

    monkeypatch.setattr(ImageCache, "__getitem__", vanished)
    events = []
    for event in finetune(mae, examples, tmp_path, finetuning):
        events.append(event)
        if isinstance(event, Progress):
            steps = event.step
    assert messages(events).count("left out from now on: 1 image (one: it vanished)") == 1
    assert isinstance(event, Done)
    assert event.step == 6


def test_heads_that_were_scored_at_the_last_step_are_not_scored_again(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []

    def score(scorer: Any, step: int, predict: Any) -> Score:
        scored.append((step, predict._model.readout is not None))
        return Score("finetune", step, 0.5, {}, 1)

    monkeypatch.setattr(finetune_module.Scorer, "score", score)
    monkeypatch.setattr(finetune_module.Scorer, "__bool__", lambda scorer: True)
    list(finetune(mae, [strokes], tmp_path, finetuning.replace(budget=Budget(steps=2)), sparse=True))
    assert scored == [(1, False), (2, False), (2, True)]


def test_a_run_from_start_to_end(
    tmp_path: Path,
    mae: MaskedAutoencoder,
    examples: list[LabelledImage],
    finetuning: FinetuneConfig,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = {name: value.clone() for name, value in mae.state_dict().items()}
    events = list(finetune(mae, examples, tmp_path / "run", finetuning))

    assert [event.step for event in events if isinstance(event, Progress)] == [1, 2, 3, 4, 5, 6]
    scores = [event for event in events if isinstance(event, Score)]
    assert [event.step for event in scores] == [2, 3, 5, 6]
    assert all(set(event.iou) == {"class 0", "class 1"} and event.pixels > 100 for event in scores)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.summary["held_out_miou"] == scores[-1].miou
    json.dumps(done.summary)

    model = load_model(tmp_path / "run")
    assert isinstance(model, Segmenter)
    assert model.card.normalisation == STATISTICS  # of the pretraining, not of these images
    assert [info.id for info in model.card.classes] == [0, 1]
    assert model.card.tile == 32
    assert model.card.pixel_size == mae.card.pixel_size
    record = model.card.history[-1]
    assert record["job"] == "finetune"
    assert len(record["data"]["images"]["hashes"]) == len(record["data"]["labels"]["hashes"]) == 2
    assert set(record["versions"]) == {"napari-affmae", "torch", "python"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["miou"] for line in lines if "miou" in line] == [event.miou for event in scores]
    # The model that was passed in belongs to the caller.
    assert all(torch.equal(value, before[name]) for name, value in mae.state_dict().items())
    assert mae.card.classes == ()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_tile_that_was_left_open_is_that_of_the_pretrained_model(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    left_open = finetuning.replace(tile=None, batch=1, budget=Budget(steps=1), held_out=0)

    def tile(run: str) -> int | None:
        return load_model(tmp_path / run).card.tile

    mae.card = mae.card.replace(tile=320)
    list(finetune(mae, examples, tmp_path / "larger", left_open))
    assert tile("larger") == 320, "also where a device alone would take 256"
    mae.card = mae.card.replace(tile=None)
    list(finetune(mae, examples, tmp_path / "unknown", left_open))
    assert tile("unknown") == 80, "the images are of 96 × 80 pixels"
    with pytest.raises(ConfigError, match=r"a multiple of 4 pixels .*, got 30: take 28 or 32"):
        list(finetune(mae, examples, tmp_path / "asked", left_open.replace(tile=30)))
    with pytest.raises(ConfigError, match=r"a tile of 1024 pixels is more than twice as large"):
        list(finetune(mae, examples, tmp_path / "asked", left_open.replace(tile=1024)))
    assert not (tmp_path / "asked").exists()


def test_resuming_keeps_the_tile_and_refuses_another(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    left_open = finetuning.replace(tile=None, batch=1, budget=Budget(steps=1), held_out=0)
    list(finetune(mae, examples, tmp_path, left_open))
    assert json.loads((tmp_path / "config.json").read_bytes())["settings"]["tile"] == 48
    list(finetune(mae, examples, tmp_path, left_open.replace(budget=Budget(steps=2)), resume=True))
    with pytest.raises(ConfigError, match=r"started with --tile 48, and now it is 32"):
        list(finetune(mae, examples, tmp_path, left_open.replace(tile=32), resume=True))


def test_resuming_reproduces_the_uninterrupted_losses_bit_for_bit(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    whole = list(finetune(mae, examples, tmp_path / "whole", finetuning))
    control = JobControl()
    first = []
    for event in finetune(mae, examples, tmp_path / "cut", finetuning, control=control):
        first.append(event)
        if isinstance(event, Progress) and event.step == 4:
            control.stop()
    second = list(finetune(mae, examples, tmp_path / "cut", finetuning, resume=True))
    assert losses(first) + losses(second) == losses(whole)
    scores = [[event for event in run if isinstance(event, Score)] for run in (first, second, whole)]
    assert scores[0] + scores[1] == scores[2]


def test_a_segmenter_with_the_same_classes_keeps_its_heads(
    tmp_path: Path, micro: ModelConfig, examples: list[LabelledImage]
) -> None:
    classes = (ClassInfo(id=0, name="ground", color="#000000"), ClassInfo(id=1, name="blob", color="#ffffff"))
    other = (*classes, ClassInfo(id=2, name="third", color="#ff0000"))
    model = Segmenter(micro, 2)
    model.card = ModelCard(classes=classes)
    start = finetune_module.start_segmenter
    for table, kept in ((classes, True), (other, False)):
        fresh = start(model, table, 1, seed=0)
        assert fresh is not model
        same = {
            part: all(
                value.shape == fresh.state_dict()[name].shape and torch.equal(value, fresh.state_dict()[name])
                for name, value in model.state_dict().items()
                if name.startswith(part)
            )
            for part in ("encoder.", "decoder.", "patch_embedding.", "heads.")
        }
        assert same == {"encoder.": True, "decoder.": True, "patch_embedding.": True, "heads.": kept}


def test_a_score_of_a_network_that_learned_classes_before_is_said_to_flatter(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(budget=Budget(steps=1))
    said = "has learned classes before, perhaps from these very labels"
    assert said not in messages(finetune(mae, examples, tmp_path / "first", config))
    assert said in messages(finetune(tmp_path / "first", examples, tmp_path / "second", config))
    assert said not in messages(finetune(mae, examples, tmp_path / "second", config, resume=True)), "it is said already"
    unscored = config.replace(held_out=0.0)
    assert said not in messages(finetune(tmp_path / "first", examples, tmp_path / "third", unscored))


def test_scratch_takes_its_channels_from_the_images(
    tmp_path: Path, finetuning: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, micro: ModelConfig
) -> None:
    monkeypatch.setitem(finetune_module.PRESETS, "tiny", micro.model_dump(exclude={"in_channels"}))
    rng = np.random.default_rng(0)
    record = collection_from_arrays({"rgb": rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)}, rgb=True).records[0]
    example = LabelledImage(record, rng.integers(0, 3, (40, 40)))
    events = list(finetune("scratch:tiny", [example], tmp_path, finetuning.replace(budget=Budget(steps=1))))
    assert isinstance(events[-1], Done)
    model = load_model(tmp_path)
    assert (model.config.in_channels, len(model.card.classes)) == (3, 3)


def test_an_unknown_preset(tmp_path: Path, examples: list[LabelledImage], finetuning: FinetuneConfig) -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'huge' .*scratch:tiny, scratch:small, scratch:base"):
        list(finetune("scratch:huge", examples, tmp_path / "run", finetuning))
    assert not (tmp_path / "run").exists()


def test_folders_with_a_bad_file(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(examples[0].record.read()[..., 0]).save(tmp_path / "images" / "a.png")
    Image.fromarray(examples[0].labels).save(tmp_path / "labels" / "a.png")
    Image.fromarray(examples[0].record.read()[..., 0]).save(tmp_path / "images" / "b.png")
    path = save_model(mae, tmp_path / "mae.safetensors")
    events = list(
        finetune(path, (tmp_path / "images", tmp_path / "labels"), tmp_path / "run", finetuning.replace(budget=Budget(steps=1)))
    )
    assert "skipped 1 image (b.png: no label file" in messages(events)
    assert isinstance(events[-1], Done)


def test_classes_that_are_named_keep_their_order_and_names(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    classes = (ClassInfo(id=1, name="blob", color="#ff0000"), ClassInfo(id=0, name="ground", color="#00ff00"))
    events = list(finetune(mae, examples, tmp_path, finetuning.replace(budget=Budget(steps=1)), classes=classes))
    assert load_model(tmp_path).card.classes == classes
    assert any(set(event.iou) == {"blob", "ground"} for event in events if isinstance(event, Score))


def test_too_little_paint_for_a_score_is_said(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    paint = np.zeros((96, 80), np.uint8)
    paint[5, 5:9], paint[50, 5:9] = 1, 2
    little = LabelledImage(examples[0].record, paint)
    events = list(finetune(mae, [little], tmp_path, finetuning.replace(budget=Budget(steps=2)), sparse=True))
    assert "too little paint" in messages(events)
    assert not [event for event in events if isinstance(event, Score)]


@pytest.mark.parametrize(
    ("values", "sparse", "message"),
    [
        ((0,), True, "nothing is painted"),
        ((0, 2), True, "only class 2 is painted; paint at least two classes"),
        ((3,), False, "only class 3 is in the labels"),
    ],
)
def test_no_paint_or_one_class(
    tmp_path: Path,
    mae: MaskedAutoencoder,
    examples: list[LabelledImage],
    finetuning: FinetuneConfig,
    values: tuple[int, ...],
    sparse: bool,
    message: str,
) -> None:
    labels = np.resize(np.array(values, np.uint8), (96, 80))
    with pytest.raises(LabelError, match=message):
        list(finetune(mae, [LabelledImage(examples[0].record, labels)], tmp_path / "run", finetuning, sparse=sparse))
    assert not (tmp_path / "run").exists()


def test_one_class_of_a_longer_table(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    classes = tuple(ClassInfo(id=i, name=f"c{i}", color="#000000") for i in (1, 2))
    one = LabelledImage(examples[0].record, np.ones((96, 80), np.uint8))
    with pytest.raises(LabelError, match="only c1 is painted"):
        list(finetune(mae, [one], tmp_path / "run", finetuning, classes=classes, sparse=True))


def test_an_id_outside_of_the_table(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    classes = (ClassInfo(id=0, name="a", color="#000000"), ClassInfo(id=5, name="b", color="#ffffff"))
    with pytest.raises(LabelError, match=r"the labels hold id 1, but the classes are 0 \(a\), 5 \(b\)"):
        list(finetune(mae, examples, tmp_path / "run", finetuning, classes=classes))


def test_no_examples(tmp_path: Path, mae: MaskedAutoencoder, finetuning: FinetuneConfig) -> None:
    with pytest.raises(LabelError, match="no labelled images"):
        list(finetune(mae, [], tmp_path / "run", finetuning))


def test_channels_that_do_not_fit(
    tmp_path: Path, micro: ModelConfig, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    model = MaskedAutoencoder(micro.replace(in_channels=3))
    with pytest.raises(DataError, match="the image has 1 channel, but the model was made for 3"):
        list(finetune(model, examples, tmp_path / "run", finetuning))


def test_mixed_channels_are_skipped(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    rng = np.random.default_rng(0)
    record = collection_from_arrays({"rgb": rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)}, rgb=True).records[0]
    odd = LabelledImage(record, rng.integers(0, 2, (40, 40)))
    events = list(finetune(mae, [odd, *examples], tmp_path, finetuning.replace(budget=Budget(steps=1))))
    assert (
        "skipped 1 image (rgb: it has 3 channels, but most images have 1 channel; "
        "move it to another folder or convert it to grey)" in messages(events)
    )


def in_sixteen_bits(example: LabelledImage, gain: int = 200) -> LabelledImage:
    pixels = example.record.read()[..., 0].astype(np.uint16) * gain
    return LabelledImage(collection_from_arrays({example.name: pixels}).records[0], example.labels)


def test_an_image_of_another_range_of_values_is_said(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(budget=Budget(steps=1))
    events = list(finetune(mae, [examples[0], in_sixteen_bits(examples[1])], tmp_path / "mixed", config))
    assert "100 % of the pixels of two lie outside of the range of values that the network was trained on (0–255)" in messages(
        events
    )
    assert "outside of the range" not in messages(finetune(mae, examples, tmp_path / "same", config))


def test_images_of_which_a_network_sees_but_one_value_are_refused(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    labelled = [in_sixteen_bits(example) for example in examples]
    with pytest.raises(DataError, match=r"sees nothing of the labelled images: 100 % of the pixels of one .*train .*anew"):
        list(finetune(mae, labelled, tmp_path / "run", finetuning))
    assert not (tmp_path / "run" / "model.safetensors").exists()
    mae.card = mae.card.replace(normalisation=None)
    list(finetune(mae, labelled, tmp_path / "fresh", finetuning.replace(budget=Budget(steps=1))))


def test_all_of_an_image_that_is_read_in_parts_is_looked_at_before_it_is_refused(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    statistics = Normalisation(low=(0.0,), high=(255.0,), mean=(100.0,), std=(30.0,))
    for in_range in (False, True):
        pixels = blobs[0].astype(np.uint16) * 200
        pixels[40:50, 40:50] = 100 if in_range else 1000
        in_parts = collection_from_arrays({"one": pixels}).records[0].open()
        assert isinstance(in_parts, LazyPlane)
        with nullcontext() if in_range else pytest.raises(DataError, match="sees nothing"):
            assert "lie outside of the range" in (check_range([("one", in_parts)], statistics) or "")


def of_size(examples: list[LabelledImage], *nanometres: float) -> list[LabelledImage]:
    """Return labelled images that state a pixel size each."""
    return [
        LabelledImage(
            dataclasses.replace(example.record, pixel_size=PixelSize(y=side, x=side, unit="nanometer")), example.labels
        )
        for example, side in zip(examples, nanometres, strict=True)
    ]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_network_says_the_pixel_size_that_it_learned_at(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig, *, resumed: bool
) -> None:
    labelled = of_size(examples, 4.1, 3.9)
    config = finetuning.replace(budget=Budget(steps=2))
    if resumed:
        list(finetune(mae, labelled, tmp_path, config.replace(budget=Budget(steps=1))))
    events = list(finetune(mae, labelled, tmp_path, config, resume=resumed))
    if not resumed:
        assert "the labelled images have 4.1 nm per pixel, but the network was trained at 8 nm before" in messages(events)
    model = load_model(tmp_path)
    assert rescaling(model, labelled[0].record.pixel_size) == rescaling(model, labelled[1].record.pixel_size) == (None, None)


def test_labelled_images_of_several_pixel_sizes_leave_that_of_the_start_and_say_so(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    events = list(finetune(mae, of_size(examples, 8, 4), tmp_path, finetuning.replace(budget=Budget(steps=1))))
    assert "two has 4 nm per pixel, but the network was trained at 8 nm" in messages(events)
    assert load_model(tmp_path).card.pixel_size == mae.card.pixel_size


def test_a_file_that_is_no_model(tmp_path: Path, examples: list[LabelledImage], finetuning: FinetuneConfig) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="damaged or not a safetensors file"):
        list(finetune(path, examples, tmp_path / "run", finetuning))
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_classes_is_refused(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    list(finetune(mae, examples, tmp_path, finetuning.replace(budget=Budget(steps=1))))
    classes = (ClassInfo(id=0, name="x", color="#000000"), ClassInfo(id=2, name="y", color="#ffffff"))
    with pytest.raises(ConfigError, match="was started with the classes"):
        list(finetune(mae, examples, tmp_path, finetuning, classes=classes, resume=True))


def test_a_run_whose_classes_were_renamed_goes_on_and_takes_the_new_names(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    list(finetune(mae, examples, tmp_path, finetuning.replace(budget=Budget(steps=1))))
    classes = (ClassInfo(id=0, name="x", color="#000000"), ClassInfo(id=1, name="y", color="#ffffff"))
    list(finetune(mae, examples, tmp_path, finetuning.replace(budget=Budget(steps=2)), classes=classes, resume=True))
    assert load_model(tmp_path).card.classes == classes


def test_learning_rates_fall_with_depth_unless_a_run_began_from_scratch_whatever_is_given_to_resume_it(
    tmp_path: Path,
    mae: MaskedAutoencoder,
    examples: list[LabelledImage],
    finetuning: FinetuneConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[float] = []
    train = finetune_module.train
    monkeypatch.setattr(
        finetune_module,
        "train",
        lambda task, settings, *given: (seen.append(settings.optimizer.layer_decay), train(task, settings, *given))[1],
    )
    one, two = (finetuning.replace(budget=Budget(steps=steps)) for steps in (1, 2))
    path = save_model(mae, tmp_path / "start.safetensors")
    list(finetune(path, examples, tmp_path / "pretrained", one))
    path.unlink()
    list(finetune("scratch:tiny", examples, tmp_path / "pretrained", two, resume=True))
    list(finetune("scratch:tiny", examples, tmp_path / "scratch", one))
    list(finetune(mae, examples, tmp_path / "scratch", two, resume=True))
    assert seen == [0.75, 0.75, 1.0, 1.0]
    starts = {run: json.loads((tmp_path / run / "config.json").read_bytes())["start"] for run in ("pretrained", "scratch")}
    assert starts == {"pretrained": str(path), "scratch": "scratch:tiny"}


def test_started_names_what_runs(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    started = next(event for event in finetune(mae, examples, tmp_path, finetuning) if isinstance(event, Started))
    assert started.device.startswith("cpu (")
    assert started.parameters > 1000
    assert started.kernels


def test_images_that_are_smaller_than_a_tile_are_told(
    tmp_path: Path, mae: MaskedAutoencoder, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(budget=Budget(steps=1), tile=None, held_out=0.0)
    fitting = list(finetune(mae, examples, tmp_path / "fitting", config))
    assert "smaller" not in messages(fitting)
    mae.card = mae.card.replace(tile=128)
    told = messages(finetune(mae, examples, tmp_path / "padded", config))
    assert f"{len(examples)} of {len(examples)} images are smaller than the tile of 128 pixels and padded" in told


def test_a_step_in_parts_divides_by_the_paint_of_the_whole_batch(
    tmp_path: Path, mae: MaskedAutoencoder, strokes: LabelledImage, finetuning: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dropout is random, and Dice no sum over tiles; the rest is.
    forward = Segmenter.forward
    monkeypatch.setattr(Segmenter, "forward", lambda self, *given: forward(self.eval(), *given))
    monkeypatch.setattr(losses_module, "soft_dice_loss", lambda logits, targets: logits.sum() * 0)
    config = finetuning.replace(budget=Budget(steps=3), held_out=0)
    whole = losses(finetune(mae, [strokes], tmp_path / "whole", config, sparse=True))
    start = loop.Progressed
    monkeypatch.setattr(loop, "Progressed", lambda: start(passes=4))
    parts = losses(finetune(mae, [strokes], tmp_path / "parts", config, sparse=True))
    assert parts == pytest.approx(whole, rel=1e-4)
