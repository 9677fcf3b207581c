"""Pretraining end to end: events, files, resuming, and everything that can go wrong on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_affmae.config import Budget, PretrainConfig
from napari_affmae.control import JobControl
from napari_affmae.data.fingerprint import fingerprint
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.data.tiles import TileSampler
from napari_affmae.engine import loop
from napari_affmae.engine.clock import Clock
from napari_affmae.engine.pretrain import pretrain
from napari_affmae.errors import AffmaeError, ConfigError, DataError, DeviceError, ModelFileError, StorageError
from napari_affmae.events import CheckpointSaved, Done, Event, Notice, Preview, Progress, Started
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import load_model
from napari_affmae.model_header import read_card


def losses(events: Iterable[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Progress)]


def only(kind: type[Any], events: Iterable[Event]) -> Any:
    (event,) = [event for event in events if isinstance(event, kind)]
    return event


def notices(events: Iterable[Event]) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Notice))


def numbers(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    else:
        yield value


def test_a_run_from_start_to_end(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    events = list(pretrain(collection, tmp_path / "run", pretraining))

    assert isinstance(events[0], Started)
    assert events[0].total_steps == 6
    assert events[0].start_step == 0
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.step for event in progress] == [1, 2, 3, 4, 5, 6]
    assert [round(event.fraction, 3) for event in progress] == [round(i / 6, 3) for i in range(1, 7)]
    assert all(set(event.losses) == {"res5", "res4", "res2"} for event in progress)
    first = progress[0]
    parts = first.losses
    assert first.loss == pytest.approx(parts["res2"] + 0.12 * parts["res4"] + 0.05 * parts["res5"], rel=1e-5)
    for event in progress:
        for field in dataclasses.fields(event):
            for value in numbers(getattr(event, field.name)):
                assert type(value) in (int, float, str, type(None)), field.name
    assert progress[-1].eta_seconds == 0

    done = events[-1]
    assert isinstance(done, Done)
    assert not done.stopped
    assert done.path == tmp_path / "run" / "model.safetensors"
    json.dumps(done.summary)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors",
        "config.json",
        "data.json",
        "log.jsonl",
        "model.safetensors",
    ]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == losses(events)
    card = read_card(tmp_path / "run").card
    assert card.normalisation is not None
    assert card.tile == 32
    (record,) = card.history
    assert (record["job"], record["images"], record["steps"]) == ("pretrain", 2, 6)
    assert isinstance(load_model(tmp_path / "run"), MaskedAutoencoder)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_the_history_has_one_record_per_run_however_often_it_was_saved(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    list(pretrain(collection, tmp_path, pretraining.replace(budget=Budget(steps=3), checkpoint_seconds=1e-6)))
    list(pretrain(collection, tmp_path, pretraining.replace(budget=Budget(steps=5)), resume=True))
    assert [record["steps"] for record in read_card(tmp_path).card.history] == [5]


def test_training_learns(tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig) -> None:
    config = pretraining.replace(budget=Budget(steps=40), learning_rate=3e-3)
    seen = losses(pretrain(collection, tmp_path, config))
    assert np.mean(seen[-10:]) < 0.75 * np.mean(seen[:5])


def test_resuming_reproduces_the_uninterrupted_losses_bit_for_bit(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    whole = losses(pretrain(collection, tmp_path / "whole", pretraining))

    control = JobControl()
    first = []
    for event in pretrain(collection, tmp_path / "cut", pretraining, control=control):
        first.append(event)
        if isinstance(event, Progress) and event.step == 3:
            control.stop()
    assert only(Done, first).stopped
    torch.rand(17)  # whatever else the process draws must not matter
    second = list(pretrain(collection, tmp_path / "cut", pretraining, resume=True))
    assert only(Started, second).start_step == 3
    assert losses(first) + losses(second) == whole
    weights, expected = (load_model(tmp_path / name).state_dict() for name in ("cut", "whole"))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    lines = (tmp_path / "cut" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == whole
    # Nor does the history tell whether the run was interrupted.
    (record,), (unbroken,) = (read_card(tmp_path / name).card.history for name in ("cut", "whole"))
    assert record["curve"] == unbroken["curve"]
    assert record["curve"]["steps"] == [1, 2, 3, 4, 5, 6]
    assert record["data"] == unbroken["data"]
    assert record["data"]["images"]["hashes"] == sorted({fingerprint(image.read()) for image in collection.records})


def test_a_finished_run_is_done_at_once_and_goes_on_with_a_larger_budget(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    list(pretrain(collection, tmp_path, pretraining))
    again = list(pretrain(collection, tmp_path, pretraining, resume=True))
    assert not losses(again)
    assert only(Done, again).step == 6
    more = list(pretrain(collection, tmp_path, pretraining.replace(budget=Budget(steps=8)), resume=True))
    assert [event.step for event in more if isinstance(event, Progress)] == [7, 8]


def test_a_run_that_lost_its_model_goes_on_with_its_curve_and_what_it_has_read(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pretrain(collection, tmp_path / "run", pretraining))
    (tmp_path / "run" / "model.safetensors").unlink()
    monkeypatch.setattr(TileSampler, "fingerprints", [])  # nothing is read any more
    list(pretrain(collection, tmp_path / "run", pretraining, resume=True))
    monkeypatch.undo()
    list(pretrain(collection, tmp_path / "straight", pretraining))
    again, straight = (load_model(tmp_path / name).card.history[-1] for name in ("run", "straight"))
    assert again["curve"] == straight["curve"]
    assert again["data"] == straight["data"]


def test_resuming_with_another_model_is_refused(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    list(pretrain(collection, tmp_path, pretraining))
    other = pretraining.replace(model=pretraining.model.replace(mask_ratio=0.7))
    with pytest.raises(ConfigError, match=r"started with model.mask_ratio = 0.5, and now it is 0.7"):
        list(pretrain(collection, tmp_path, other, resume=True))


def test_a_tile_that_was_left_open_is_chosen_once_and_recorded(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_open = pretraining.replace(tile=None, batch=1, budget=Budget(steps=1))
    list(pretrain(collection, tmp_path, left_open))

    def recorded() -> tuple[int, int | None]:
        return json.loads((tmp_path / "config.json").read_bytes())["settings"]["tile"], read_card(tmp_path).card.tile

    assert recorded() == (80, 80), "the images are of 96 × 80 pixels"
    # The machine that takes the run up would choose another one.
    monkeypatch.setattr("napari_affmae.engine.pretrain.default_tile", lambda device: 64)
    list(pretrain(collection, tmp_path, left_open.replace(budget=Budget(steps=2)), resume=True))
    assert recorded() == (80, 80)
    list(pretrain(collection, tmp_path, left_open.replace(tile=80, budget=Budget(steps=3)), resume=True))
    with pytest.raises(ConfigError, match=r"started with --tile 80, and now it is 64"):
        list(pretrain(collection, tmp_path, left_open.replace(tile=64), resume=True))


def test_a_folder_in_use_is_refused_before_any_work(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(StorageError, match="not empty and holds no run"):
        next(pretrain(collection, tmp_path, pretraining))


def test_a_damaged_checkpoint_is_named(tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig) -> None:
    list(pretrain(collection, tmp_path, pretraining))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"checkpoint\.safetensors is damaged"):
        list(pretrain(collection, tmp_path, pretraining, resume=True))


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    config = pretraining.replace(budget=Budget(steps=5000), checkpoint_seconds=0.2)
    (tmp_path / "config.json").write_text(config.to_json())
    images = tmp_path / "images"
    images.mkdir()
    for record in collection.records:
        Image.fromarray(record.read()[..., 0]).save(images / f"{record.name}.png")
    script = (
        "import sys, torch, napari_affmae as am\n"
        "torch.set_num_threads(1)\n"
        "config = am.PretrainConfig.from_json(open(sys.argv[1]).read())\n"
        "for _ in am.pretrain(sys.argv[2], sys.argv[3], config): pass\n"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "config.json"), str(images), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": paths},
    )
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    control = JobControl()
    started = None
    for event in pretrain(images, tmp_path / "run", config, resume=True, control=control):
        if isinstance(event, Started):
            started = event
        if isinstance(event, Progress):
            control.stop()
    assert started is not None
    assert started.start_step > 0


@pytest.mark.parametrize("at", [1, 6])
def test_a_run_that_died_between_its_checkpoint_and_its_model_goes_on(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    save = loop.save_model

    def die(*arguments: Any, **facts: Any) -> Path:
        if facts["steps"] == at:
            raise KeyboardInterrupt
        return save(*arguments, **facts)

    monkeypatch.setattr(loop, "save_model", die)
    with pytest.raises(KeyboardInterrupt):
        list(pretrain(collection, tmp_path, pretraining.replace(checkpoint_seconds=1e-6)))
    monkeypatch.undo()
    rest = list(pretrain(collection, tmp_path, pretraining, resume=True))
    assert only(Started, rest).start_step == at
    assert load_model(tmp_path).card.history[-1]["steps"] == 6


def test_minutes_are_kept_and_pauses_do_not_count(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    wait = JobControl.wait_while_paused

    def wait_a_little(self: JobControl) -> float:
        threading.Timer(0.5, self.resume).start()  # from here on, however long a loaded machine took to get here
        waited.append(wait(self))
        return waited[-1]

    monkeypatch.setattr(JobControl, "wait_while_paused", wait_a_little)
    control = JobControl()
    events = []
    began = 0.0
    for event in pretrain(collection, tmp_path, pretraining.replace(budget=Budget(minutes=0.02)), control=control):
        if isinstance(event, Started):
            assert event.total_steps is None
            began = time.perf_counter()
        if isinstance(event, Progress) and event.step == 1:
            control.pause()
        events.append(event)
    seconds = time.perf_counter() - began
    assert sum(waited) > 0.4
    worked = only(Done, events).summary["seconds"]
    assert worked >= 1.2
    assert worked == pytest.approx(seconds - sum(waited), abs=0.1)
    assert [event for event in events if isinstance(event, Progress)][-1].fraction == 1
    assert any(isinstance(event, CheckpointSaved) and event.step == 1 for event in events)  # a pause saves what there is


def test_a_stop_while_paused_ends_the_run(tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig) -> None:
    control = JobControl()
    for event in pretrain(collection, tmp_path, pretraining, control=control):
        if isinstance(event, Progress):
            control.pause()
            threading.Timer(0.1, control.stop).start()
    assert isinstance(event, Done)
    assert (event.step, event.stopped) == (1, True)


def test_a_stop_before_the_first_step_leaves_nothing_in_the_way(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    control = JobControl()
    control.stop()
    events = list(pretrain(collection, tmp_path, pretraining, control=control))
    done = only(Done, events)
    assert (done.stopped, done.step, done.path) == (True, 0, None), "random weights are no model"
    assert only(Done, pretrain(collection, tmp_path, pretraining)).step == 6


def test_a_pause_before_the_first_step_leaves_nothing_in_the_way_either(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = JobControl()
    control.pause()
    monkeypatch.setattr(control, "wait_while_paused", lambda: control.stop() or 0.0)
    events = list(pretrain(collection, tmp_path, pretraining, control=control))
    assert only(Done, events).path is None
    assert not any(isinstance(event, CheckpointSaved) for event in events)
    assert only(Done, pretrain(collection, tmp_path, pretraining)).step == 6


@pytest.mark.parametrize("channels", [1, 3])
def test_previews_show_what_is_hidden(tmp_path: Path, pretraining: PretrainConfig, channels: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (50, 41, 3) if channels == 3 else (50, 41), dtype=np.uint8)
    collection = collection_from_arrays({"noise": image}, rgb=channels == 3)
    model = pretraining.model.replace(in_channels=channels)
    config = pretraining.replace(model=model, preview_seconds=1e-6, budget=Budget(steps=2))
    events = list(pretrain(collection, tmp_path, config))
    previews = [event for event in events if isinstance(event, Preview)]
    assert [event.step for event in previews] == [1, 2]
    assert isinstance(events[events.index(previews[0]) - 1], Progress)
    for preview in previews:
        for picture in (preview.masked, preview.reconstruction, preview.target):
            assert picture.dtype == np.float32
            assert picture.shape == ((32, 32, 3) if channels == 3 else (32, 32))
            assert picture.min() >= 0
            assert picture.max() <= 1
        hidden = preview.masked != preview.target
        assert 0.4 < hidden.mean() < 0.6
        np.testing.assert_array_equal(preview.masked[hidden], 0.5)
        np.testing.assert_array_equal(preview.reconstruction[~hidden], preview.target[~hidden])
        assert (preview.reconstruction[hidden] != preview.target[hidden]).mean() > 0.9
    np.testing.assert_array_equal(previews[0].masked, previews[1].masked)  # the same tile behind the same mask
    assert not np.array_equal(previews[0].reconstruction, previews[1].reconstruction)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_previews_show_colours_as_the_viewer_does(tmp_path: Path, pretraining: PretrainConfig, dtype: type) -> None:
    stained = np.random.default_rng(0).random((32, 32, 1)) < 0.2
    image = np.where(stained, (88, 40, 130), (236, 228, 240)).astype(dtype)
    model = pretraining.model.replace(in_channels=3)
    config = pretraining.replace(model=model, preview_seconds=1e-6, budget=Budget(steps=1))
    preview = only(Preview, pretrain(collection_from_arrays({"stain": image}, rgb=True), tmp_path, config))
    shown = image / 255 if dtype is np.uint8 else np.broadcast_to(~stained, image.shape)
    hidden = (preview.masked == 0.5).all(axis=-1)
    assert 0.4 < hidden.mean() < 0.6
    np.testing.assert_allclose(preview.target, shown, atol=1e-5)
    np.testing.assert_allclose(preview.masked[~hidden], shown[~hidden], atol=1e-5)
    np.testing.assert_allclose(preview.reconstruction[~hidden], shown[~hidden], atol=1e-5)


def test_previews_change_nothing_about_the_training(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    without = losses(pretrain(collection, tmp_path / "without", pretraining))
    with_them = losses(pretrain(collection, tmp_path / "with", pretraining.replace(preview_seconds=1e-6)))
    assert with_them == without


def test_a_folder_of_files_with_a_bad_one(tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(collection.records[0].read()[..., 0]).save(images / "good.png")
    (images / "bad.png").write_bytes(b"no image")
    events = list(pretrain(images, tmp_path / "run", pretraining.replace(tile=128, batch=1, budget=Budget(steps=1))))
    assert "skipped 1 image (bad.png:" in notices(events)
    assert "the image is smaller than the tile of 128 pixels and padded by reflection, where hidden parts of" in notices(events)


def test_a_folder_without_images(tmp_path: Path, pretraining: PretrainConfig) -> None:
    with pytest.raises(DataError, match="no images in"):
        list(pretrain(tmp_path, tmp_path / "run", pretraining))
    assert not (tmp_path / "run").exists()


def test_channels_that_do_not_fit(tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig) -> None:
    config = pretraining.replace(model=pretraining.model.replace(in_channels=3))
    with pytest.raises(ConfigError, match=r"the images have 1 channels, but the model is set up for 3: set in_channels=1"):
        list(pretrain(collection, tmp_path, config))


def test_no_gpu(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"):
        list(pretrain(collection, tmp_path, pretraining.replace(device="cuda")))


def raising(error: Exception) -> Callable[..., Any]:
    """Return a function that takes anything and fails."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def memory_for(monkeypatch: pytest.MonkeyPatch, tiles: int) -> list[int]:
    """Let a network run out of memory with more tiles at once than this; return the sizes it was asked for."""
    training_loss = MaskedAutoencoder.training_loss
    asked: list[int] = []

    def limited(self: MaskedAutoencoder, images: torch.Tensor, *ids: torch.Tensor) -> Any:
        asked.append(len(images))
        if len(images) > tiles:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB")
        return training_loss(self, images, *ids)

    monkeypatch.setattr(MaskedAutoencoder, "training_loss", limited)
    return asked


def test_exhausted_memory_cuts_batches_into_parts(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = memory_for(monkeypatch, 1)
    events = list(pretrain(collection, tmp_path, pretraining.replace(budget=Budget(steps=2))))
    assert asked == [4, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [event.step for event in events if isinstance(event, Progress)] == [1, 2]
    assert "each batch of 4 tiles now goes through in parts of 2" in notices(events)
    assert "in parts of 1" in notices(events)


def test_parts_of_a_batch_add_up_to_the_step(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without anything random inside of the network, a step in parts is the same step.
    training_loss = MaskedAutoencoder.training_loss

    def without_dropout(self: MaskedAutoencoder, *batch: torch.Tensor) -> Any:
        self.eval()
        return training_loss(self, *batch)

    monkeypatch.setattr(MaskedAutoencoder, "training_loss", without_dropout)
    whole = losses(pretrain(collection, tmp_path / "whole", pretraining))
    start = loop.Progressed
    monkeypatch.setattr(loop, "Progressed", lambda: start(passes=2))
    parts = losses(pretrain(collection, tmp_path / "parts", pretraining))
    assert parts == pytest.approx(whole, rel=1e-4)


def test_memory_too_small_for_one_tile_saves_and_says_what_to_lower(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = pretrain(collection, tmp_path, pretraining)
    for event in job:
        if isinstance(event, Progress) and event.step == 2:
            memory_for(monkeypatch, 0)
            break
    with pytest.raises(DeviceError, match=r"exhausted by a single tile: lower the tile size, choose a smaller preset"):
        list(job)
    monkeypatch.undo()
    rest = list(pretrain(collection, tmp_path, pretraining, resume=True))
    assert only(Started, rest).start_step == 2


def test_memory_that_runs_out_elsewhere_is_a_device_error_too(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", raising(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(DeviceError, match="exhausted by a single tile: lower the tile size, choose a smaller preset"):
        list(pretrain(collection, tmp_path, pretraining))


def test_other_errors_are_not_taken_for_memory(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MaskedAutoencoder, "training_loss", raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        list(pretrain(collection, tmp_path, pretraining))


def test_steps_are_saved_whatever_ends_a_run(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = pretrain(collection, tmp_path, pretraining)
    for event in job:
        if isinstance(event, Progress) and event.step == 2:
            monkeypatch.setattr(MaskedAutoencoder, "training_loss", raising(RuntimeError("a bug")))
            break
    with pytest.raises(RuntimeError, match="a bug"):
        list(job)
    monkeypatch.undo()
    rest = list(pretrain(collection, tmp_path, pretraining, resume=True))
    assert only(Started, rest).start_step == 2
    assert losses(rest) == losses(pretrain(collection, tmp_path / "straight", pretraining))[2:]


def test_an_error_that_forbids_saving_too_is_the_one_that_is_told(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = pretrain(collection, tmp_path, pretraining)
    for event in job:
        if isinstance(event, Progress):
            monkeypatch.setattr(MaskedAutoencoder, "training_loss", raising(RuntimeError("the card fell off the bus")))
            monkeypatch.setattr(loop, "save_model", lambda *_, **__: [][0])
            break
    with pytest.raises(RuntimeError, match="fell off the bus"):
        list(job)


def spoil(monkeypatch: pytest.MonkeyPatch, steps: range) -> None:
    """Make the loss of some steps NaN."""
    training_loss = MaskedAutoencoder.training_loss
    count = iter(range(10**6))

    def spoilt(self: MaskedAutoencoder, *batch: torch.Tensor) -> Any:
        loss, losses = training_loss(self, *batch)
        return loss * (float("nan") if next(count) in steps else 1.0), losses

    monkeypatch.setattr(MaskedAutoencoder, "training_loss", spoilt)


def test_a_step_without_a_finite_loss_is_left_out(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, range(1, 3))
    events = list(pretrain(collection, tmp_path, pretraining))
    seen = losses(events)
    assert np.isnan(seen[1:3]).all()
    assert np.isfinite(seen[:1] + seen[3:]).all()
    assert "the loss was not finite: a step was left out" in notices(events)
    assert only(Done, events).summary["left_out_steps"] == 2
    assert all(torch.isfinite(value).all() for value in load_model(tmp_path).state_dict().values())


def test_a_loss_that_stays_infinite_ends_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, range(3, 1000))
    config = pretraining.replace(budget=Budget(steps=40), checkpoint_seconds=1e-6)
    with pytest.raises(AffmaeError, match=r"not finite in 20 steps in a row.*is saved in .*lower the learning rate"):
        list(pretrain(collection, tmp_path, config))
    assert all(torch.isfinite(value).all() for value in load_model(tmp_path).state_dict().values())


def test_the_steps_before_a_loss_that_stays_infinite_are_saved_and_where_there_are_none_nothing_is(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pretraining.replace(budget=Budget(steps=40))
    spoil(monkeypatch, range(3, 1000))
    with pytest.raises(AffmaeError, match=r"not finite in 20 steps in a row.*step 23 is saved in"):
        list(pretrain(collection, tmp_path / "late", config))
    assert load_model(tmp_path / "late").card.history[-1]["steps"] == 23
    spoil(monkeypatch, range(1000))
    with pytest.raises(AffmaeError, match="nothing was worth saving"):
        list(pretrain(collection, tmp_path / "never", config))
    assert not (tmp_path / "never" / "model.safetensors").exists()


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)


def test_a_disk_that_fills_up_only_postpones_checkpoints(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    for event in pretrain(collection, tmp_path, pretraining.replace(checkpoint_seconds=1e-6)):
        events.append(event)
        if isinstance(event, CheckpointSaved) and event.step == 2:
            full_disk(monkeypatch)
        if isinstance(event, Progress) and event.step == 5:
            monkeypatch.undo()
    assert "no checkpoint yet, the run goes on and tries again later: cannot write" in notices(events)
    assert [event.step for event in events if isinstance(event, CheckpointSaved)] == [1, 2, 5, 6]


def test_a_disk_that_stays_full_is_an_error_at_the_end_and_the_last_checkpoint_stays(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = pretrain(collection, tmp_path, pretraining.replace(checkpoint_seconds=1e-6))
    for event in job:
        if isinstance(event, CheckpointSaved) and event.step == 2:
            full_disk(monkeypatch)
            break
    with pytest.raises(StorageError, match=r"cannot write .*No space left on device"):
        list(job)
    monkeypatch.undo()
    rest = list(pretrain(collection, tmp_path, pretraining, resume=True))
    assert only(Started, rest).start_step == 2
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_it_runs_in_a_thread(tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig) -> None:
    events: list[Event] = []
    thread = threading.Thread(
        target=lambda: events.extend(pretrain(collection, tmp_path, pretraining, threads=max(1, torch.get_num_threads())))
    )
    thread.start()
    thread.join()
    assert only(Done, events).step == 6


def test_the_last_step_of_a_run_by_time_says_that_it_is_the_last(
    tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(1, 1_000_000))
    # A second passes with every look at the clock: two looks that decide one thing would disagree.
    monkeypatch.setattr(Clock, "elapsed", property(lambda clock: float(next(looks))))
    for seconds in range(20, 32):
        budget = Budget(minutes=(next(looks) + seconds) / 60)
        events = list(pretrain(collection, tmp_path / str(seconds), pretraining.replace(budget=budget)))
        assert [event.fraction for event in events if isinstance(event, Progress)][-1] == 1
        assert not only(Done, events).stopped
