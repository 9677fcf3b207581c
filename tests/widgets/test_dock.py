"""The dock around its jobs: pause, stop, resume, failure, closing, themes, torch only when a job starts."""

from __future__ import annotations

import errno
import gc
import os
import re
import subprocess
import sys
import time
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from napari.settings import get_settings
from napari.utils.notifications import NotificationSeverity, notification_manager
from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QPainter, QPixmap
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel, QPushButton, QScrollArea

import napari_affmae
from napari_affmae.card import ModelCard, PixelSize
from napari_affmae.config import Budget
from napari_affmae.data.classes import default_classes
from napari_affmae.data.label_array import LabelArray
from napari_affmae.errors import DataError, DeviceError, ModelFileError
from napari_affmae.events import CheckpointSaved, Done, Notice, PartBegun, Progress, Score, Started
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig
from napari_affmae.widgets.class_table import PIXELS
from napari_affmae.widgets.dock import AffmaeDock
from napari_affmae.widgets.jobs import Engine
from napari_affmae.widgets.kinds import KIND, Kind
from napari_affmae.widgets.loss_curve import LossCurve
from napari_affmae.widgets.section import Section
from napari_affmae.widgets.state import ModelOnDisk, Phase
from napari_affmae.words import NOT_FITTED


@pytest.fixture
def ready(make_dock, image_folder, click, wait_idle):
    """A dock that has read a folder."""
    dock = make_dock()
    dock.images.folder.set_text(str(image_folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    return dock


def give_network(dock, engine, classes=(), pixel_size=None):
    path = dock.session.project / "model.safetensors"
    engine.models[path] = ModelOnDisk(path, 1, len(classes), ModelCard(classes=classes, pixel_size=pixel_size))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    dock.load_model(path)


def saved_paint(project, image="em_0.png"):
    return LabelArray(project / "labels" / f"{image}.ome.zarr", "paint").read()


def errors():
    return [note.message for note in notification_manager.records if note.severity == NotificationSeverity.ERROR]


def warnings():
    return [note.message for note in notification_manager.records if note.severity == NotificationSeverity.WARNING]


def test_pause_resume_stop(ready, engine, click, wait_idle, qtbot):
    engine.steps, engine.step_seconds = 10_000, 0.01
    step2 = ready.pretrain
    click(step2.start)
    assert not step2.start.isEnabled()
    assert not ready.images.scan.isEnabled()
    qtbot.waitUntil(lambda: bool(step2.curve.points()[0]), timeout=5000)
    click(step2.pause)
    assert step2.pause.text() == "Resume"
    qtbot.wait(200)
    held = step2.curve.points()[0][-1]
    qtbot.wait(300)
    assert step2.curve.points()[0][-1] <= held + 1
    click(step2.pause)
    qtbot.waitUntil(lambda: step2.curve.points()[0][-1] > held + 5, timeout=5000)
    click(step2.stop)
    wait_idle(ready)
    assert "Stopped" in step2.bar.format()
    assert ready.session.state.pretrained is not None, "what was learned can be used"


@pytest.fixture
def stopped(ready, engine, click, wait_idle, qtbot):
    """A dock in which pretraining was stopped."""
    engine.steps, engine.step_seconds = 10_000, 0.01
    click(ready.pretrain.start)
    qtbot.waitUntil(lambda: ready.session.state.phase is Phase.RUNNING, timeout=5000)
    click(ready.pretrain.stop)
    wait_idle(ready)
    return ready


def test_an_interrupted_run_is_taken_up(stopped, engine, click, wait_idle):
    ready = stopped
    assert ready.session.state.last_runs["pretrain"].run.name == "pretrain-1"
    config = engine.config
    engine.steps = 5
    assert ready.pretrain.pause.text() == "Resume"
    click(ready.pretrain.pause)
    wait_idle(ready)
    assert engine.calls == ["pretrain", "resume"]
    assert engine.config == config, "a run goes on with the settings it was started with"
    assert ready.session.state.last_runs["pretrain"].is_over
    click(ready.pretrain.start)
    wait_idle(ready)
    assert (ready.session.project / "pretrain-2").is_dir(), "a new run never writes into an old one"


def test_a_finished_run_is_given_more_time(ready, engine, click, wait_idle):
    engine.steps = 5
    step2 = ready.pretrain
    assert not step2.pause.isEnabled()
    step2.minutes.setValue(10)
    click(step2.start)
    wait_idle(ready)
    assert step2.pause.text() == "Train longer"
    step2.minutes.setValue(2.5)
    step2.preset.setCurrentIndex(1 - step2.preset.currentIndex())
    before = engine.config
    behind = {"steps": [300, 600], "losses": [2.0, 1.0]}
    save_model(MaskedAutoencoder(ModelConfig.preset("tiny")), ready.session.project / "pretrain-1", curve=behind)
    click(step2.pause)
    wait_idle(ready)
    assert engine.calls == ["pretrain", "resume"]
    assert step2.curve.points()[0][:3] == [300, 600, 1], "the curve goes on"
    assert engine.config == before.replace(budget=Budget(minutes=12.5)), "ten minutes are over, and the rest stays as it was"
    assert step2.pause.text() == "Train longer"
    assert not (ready.session.project / "pretrain-2").exists()


def test_painting_puts_the_preview_away(make_dock, engine, click, wait_idle):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((64, 64)), name="a")
    click(dock.images.use_layers)
    wait_idle(dock)
    camera = getattr(dock._viewer, "scene", dock._viewer).camera
    near = camera.zoom
    engine.steps = 5
    click(dock.pretrain.start)
    wait_idle(dock)
    previews = [layer for layer in dock._viewer.layers if layer.name.startswith("pretraining")]
    assert all(layer.visible for layer in previews)
    assert camera.zoom < near
    dock._viewer.layers.selection.active = dock._viewer.layers["a"]
    click(dock.label.paint)
    assert len(previews) == 2
    assert not any(layer.visible for layer in previews)
    assert camera.zoom == pytest.approx(near), "the image fills the view"
    click(dock.pretrain.start)
    wait_idle(dock)
    assert all(layer.visible for layer in previews)
    assert camera.zoom < near, "the preview is in the view, too"


@pytest.mark.parametrize("work", ["paint", "train", "live"])
def test_whoever_works_on_an_image_has_looked_inside(make_dock, engine, click, wait_idle, monkeypatch, work):
    dock = make_dock()
    monkeypatch.setattr(dock.label.live_mode._worker, "ask", lambda wanted: None)
    dock._viewer.add_image(np.random.default_rng(0).random((64, 64)), name="a")
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    click(dock.label.paint)
    layer = dock.session.layers.paint_layer("a")
    for place in (1, 2):
        layer.paint((20 * place, 20), place)
    click(dock.label.segment)
    wait_idle(dock)
    click(dock.look.pca)
    wait_idle(dock)
    seen = lambda: {layer.name for layer in dock._viewer.layers if layer.visible}  # noqa: E731
    assert seen() == {"a", "a · PCA stage 2"}
    click(getattr(dock.label, work))
    assert seen() == {"a", "a · paint", "a · segmentation"}
    dock.label.live_mode.stop()
    wait_idle(dock)


def test_the_tile_is_left_open_unless_chosen(ready, engine, click, wait_idle):
    engine.steps = 2
    assert ready.pretrain.tile.currentText() == "automatic"
    click(ready.pretrain.start)
    wait_idle(ready)
    assert engine.config.tile is None, "the engine chooses, as for the command line"
    ready.pretrain.tile.setCurrentIndex(ready.pretrain.tile.findData(512))
    click(ready.pretrain.start)
    wait_idle(ready)
    assert engine.config.tile == 512
    ready.pretrain.tile.setCurrentIndex(0)
    assert ready.session.settings.tile is None


def test_a_failure_is_a_notification_that_says_what_to_do(ready, engine, click, wait_idle):
    engine.fail_with = DeviceError("no CUDA device: choose “CPU”")
    click(ready.pretrain.start)
    wait_idle(ready)
    assert errors()[-1] == "No CUDA device: choose “CPU”."
    assert ready.status.text() == "No CUDA device: choose “CPU”."
    assert ready.status.property("error")
    assert ready.pretrain.start.isEnabled()
    engine.fail_with = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        raise engine.fail_with  # gives it the traceback that napari shows
    click(ready.pretrain.start)
    wait_idle(ready)
    assert "Unexpected ZeroDivisionError" in ready.status.text()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "There is not enough memory for this; close other programs, or take a smaller image."),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device."),
    ],
)
def test_memory_and_disks_are_nothing_unexpected(ready, engine, click, wait_idle, error, told):
    engine.fail_with = error
    click(ready.pretrain.start)
    wait_idle(ready)
    assert errors()[-1] == told
    assert ready.status.text() == told


@pytest.mark.parametrize("where", ["pretrain", "label"])
def test_a_run_that_fails_on_its_way_leaves_no_bar(ready, engine, click, wait_idle, monkeypatch, where):
    train = engine._train

    def fail(*given):
        for event in train(*given):
            yield event
            if isinstance(event, Progress) and event.step == 6:
                raise DeviceError("the card is gone: start again")

    monkeypatch.setattr(engine, "_train", fail)
    if where == "pretrain":
        click(ready.pretrain.start)
    else:
        ready.label._run(Path("scratch:tiny"), None, ready.session.settings.training())
    wait_idle(ready)
    assert "card is gone" in ready.status.text()
    assert getattr(ready, where).bar.isHidden()


def test_a_wrong_word_for_the_kernels_is_said(make_dock, image_folder, click, wait_idle, monkeypatch):
    monkeypatch.setenv("AFFMAE_KERNELS", "fast")
    dock = make_dock(fake=False)
    dock.images.folder.set_text(str(image_folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    click(dock.pretrain.start)
    wait_idle(dock)
    assert errors()[-1] == dock.status.text() == "AFFMAE_KERNELS must be auto, pytorch or triton, got 'fast'."


def test_the_list_says_what_it_is_of_and_only_a_folder_that_was_read_is_remembered(ready, image_folder, click, wait_idle):
    step, store = ready.images, ready.session.store
    assert step.summary.text().startswith("From images:\n3 images")
    step.folder.set_text("/nope")
    click(step.scan)
    wait_idle(ready)
    assert "/nope is not there" in ready.status.text()
    assert step.summary.text().startswith("From images:\n")
    assert store.load().folder == ready.session.settings.folder == str(image_folder)
    tried = len(errors())
    step.folder.chosen.emit("/nope")
    wait_idle(ready)
    assert len(errors()) == tried, "whoever leaves the field is not told again"
    ready._viewer.add_image(np.random.default_rng(0).random((5, 32, 32)), name="stack")
    click(step.use_layers)
    wait_idle(ready)
    assert step.summary.text().startswith("From open layers:\n1 stack of 5 slices")
    assert not step.folder.text()
    assert store.load().folder == str(image_folder), "the next session can go on with it"


def test_a_folder_without_images_says_so(make_dock, tmp_path, click, wait_idle):
    dock = make_dock()
    empty = tmp_path / "empty"
    empty.mkdir()
    dock.images.folder.set_text(str(empty))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    assert "No images in" in errors()[-1]
    assert dock.session.state.images is None


@pytest.mark.parametrize("paused", [False, True])
def test_closing_the_dock_stops_the_job_and_keeps_the_paint(ready, engine, click, qtbot, paused):
    viewer = ready._viewer
    ready.session.opener.open(ready.session.state.images.records[0])
    qtbot.waitUntil(lambda: ready.session.state.image is not None, timeout=5000)
    click(ready.label.paint)
    layer = ready.session.layers.paint_layer("em_0.png")
    layer.paint((20, 20), 1)
    engine.steps, engine.step_seconds = 100_000, 0.01
    click(ready.pretrain.start)
    qtbot.waitUntil(lambda: ready.session.state.phase is Phase.RUNNING, timeout=5000)
    if paused:
        click(ready.pretrain.pause)
    over = ready.session.runner._over
    begun = time.monotonic()
    viewer.window.remove_dock_widget(ready)
    assert over.is_set(), "the job had ended when the dock was gone"
    assert time.monotonic() - begun < 5
    said = notification_manager.records[-1].message
    assert said == "Pretraining was stopped and saved: Resume in step 2 goes on with it."
    assert layer in viewer.layers
    np.testing.assert_array_equal(saved_paint(ready.session.project), layer.data)


class Network:
    """Something large that live mode holds."""


def test_a_closed_dock_is_freed_and_leaves_the_brush_alone(make_napari_viewer, engine, qtbot):
    viewer, network = make_napari_viewer(), Network()
    dock = AffmaeDock(viewer, engine)
    window = viewer.window.add_dock_widget(dock, name="AFFMAE", area="right")
    viewer.add_image(np.zeros((32, 32)), name="em")
    dock.label.paint.click()
    layer = dock.session.layers.paint_layer("em")
    layer.paint((10, 10), 1)
    dock.label.live_mode._training.live = network
    held = [weakref.ref(one) for one in (dock, dock.session, network)]
    window.destroyOnClose()
    del dock, window, network

    def freed():
        QApplication.processEvents()
        gc.collect()
        return not any(one() for one in held)

    layer.mode = "pan_zoom"
    layer.selected_label = 2
    assert layer.mode == "pan_zoom"
    qtbot.waitUntil(freed, timeout=3000)


def test_a_closed_dock_hears_nothing_of_paint(ready, click, qtbot):
    ready.session.opener.open(ready.session.state.images.records[0])
    qtbot.waitUntil(lambda: ready.session.state.image is not None, timeout=5000)
    click(ready.label.paint)
    layer, live = ready.session.layers.paint_layer("em_0.png"), ready.label.live_mode
    live._training.live = network = Network()
    seen, gone = ready.label.classes.currentRow(), weakref.ref(network)
    del network
    ready.shut_down()
    layer.selected_label, layer.brush_size = 2, 77
    layer.paint((20, 20), 1)
    assert ready.label.classes.currentRow() == seen
    assert ready.label.brush.value() != 77
    assert ready.session.class_edits._strokes[id(layer)] == 0
    gc.collect()
    assert gone() is None


def test_a_checkpoint_that_is_saved_because_of_a_pause_does_not_hide_it(ready, tmp_path):
    session = ready.session
    for phase, begun in ((Phase.PAUSED, "Paused. Checkpoint saved"), (Phase.RUNNING, "Checkpoint saved")):
        session.state.job, session.state.phase = "pretrain", phase
        session.event.emit(CheckpointSaved("pretrain", 2, tmp_path))
        assert ready.status.text() == f"{begun} after 2 steps."
    session.state.phase, session.state.job = Phase.IDLE, None


def test_settings_that_a_running_job_does_not_heed_cannot_be_changed(ready):
    step, state = ready.label, ready.session.state
    fields = (step.minutes, step.from_scratch, step.recipe.deform, step.recipe.views, ready.pretrain.minutes)
    state.job, state.phase = "finetune", Phase.RUNNING
    assert not any(field.isEnabled() for field in fields)
    assert step.recipe.heading.isEnabled(), "what it runs with can be looked at"
    state.phase, state.job = Phase.IDLE, None
    assert all(field.isEnabled() for field in fields)


def test_what_comes_after_the_last_step_is_shown(ready):
    """A readout is fitted to strokes for some seconds, in which no step is made."""
    session, bar = ready.session, ready.label.bar
    session.state.job = "finetune"
    session.event.emit(Progress("finetune", 5, 10, 0.5, 1.0, {}, 1e-3, 1.0, None, 1.0))
    session.event.emit(PartBegun("finetune", "fitting a readout to the strokes", 0.25))
    assert (bar.value(), bar.format()) == (250, "fitting a readout to the strokes · 25%")
    assert ready.status.text() == "Fitting a readout to the strokes …"
    session.event.emit(Done("finetune", 5, None, stopped=True, summary={}))
    assert bar.value() == 500, "a run that was stopped stays where it was"
    session.state.job = None


def test_what_comes_after_the_last_step_can_be_stopped_though_the_steps_were(ready):
    session = ready.session
    session.state.job, session.state.phase = "finetune", Phase.STOPPING
    assert not ready.label.stop.isEnabled()
    session._on_batch((PartBegun("finetune", "fitting a readout to the strokes", 0.0),))
    assert ready.label.stop.isEnabled()
    assert not ready.label.pause.isEnabled(), "a job that was stopped is not held still"
    assert "stay rough until you click Resume" in ready.label.stop.toolTip(), "there is no other network"
    session.state.segmenter = ModelOnDisk(Path("good"), 1, 2, ModelCard())
    assert "keep the network that is in use" in ready.label.stop.toolTip()
    session.state.phase = Phase.STOPPING
    session._on_batch((PartBegun("finetune", "fitting a readout to the strokes", 0.3),))
    assert not ready.label.stop.isEnabled(), "it was asked to stop again"
    session.state.phase, session.state.job = Phase.IDLE, None


def test_what_a_job_does_stays_said_when_it_says_what_it_runs_on(ready):
    session = ready.session
    session.state.job = "segment"
    session.say("Segmenting …")
    for _ in range(2):  # a job of several images begins with each
        session._on_batch((Started("segment", 1, "cpu (2 threads)", "PyTorch"),))
    assert ready.status.text() == "Segmenting … Running on the CPU (2 threads)."
    session.state.phase, session.state.job = Phase.IDLE, None


def test_bars_say_what_comes_and_that_a_job_is_held_still(ready):
    session, bar = ready.session, ready.label.bar
    bar.start()
    assert bar.text() == "starting …", "Qt draws no text while it is not known how far a job is"
    step = Progress("finetune", 3, 10, 0.34, 1.0, {}, 1e-3, 0.5, 8.0, 1.0)
    session.state.job, session.state.phase = "finetune", Phase.RUNNING
    session.event.emit(step)
    session.pause()
    assert bar.text() == "Paused at 34%"
    session.event.emit(step)
    assert bar.text() == "Paused at 34%", "the step at hand still ends"
    session.resume()
    assert bar.text() == "34%"
    session.event.emit(step)
    assert bar.text().startswith("34% · 8 s left")
    session.pause()
    session.state.phase, session.state.job = Phase.IDLE, None


def test_a_stop_before_the_first_step_leaves_the_networks_as_they_are(ready, engine, click, wait_idle):
    session = ready.session
    for job, said in (("pretrain", "nothing was learned"), ("finetune", "nothing was trained")):
        session.state.job = job
        session.event.emit(Done(job, 0, None, stopped=True, summary={"classes_from": NOT_FITTED}))
        assert said in ready.status.text()
    assert session.state.pretrained is session.state.segmenter is None
    assert not ready.label.score.text()
    session.state.job = None


def test_a_stop_before_the_first_step_leaves_the_run_before_to_be_taken_up(stopped, engine, click, wait_idle, monkeypatch):
    pause = stopped.pretrain.pause

    def at_once(images, run, config, *, resume, control):
        engine._leave_run("pretrain", run, config, 0, {})
        (run / "log.jsonl").unlink()
        (run / "checkpoint.safetensors").unlink()
        yield Done("pretrain", 0, None, stopped=True)

    monkeypatch.setattr(engine, "pretrain", at_once)
    click(stopped.pretrain.start)
    wait_idle(stopped)
    assert "nothing was learned" in stopped.status.text()
    assert (pause.text(), pause.isEnabled()) == ("Resume", True)
    assert "pretrain-1" in pause.toolTip()


@pytest.mark.parametrize("first", ["train", "live"])
def test_the_end_of_a_run_is_not_shown_beside_live(make_dock, engine, click, wait_idle, qtbot, monkeypatch, first):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((64, 64)), name="a")
    monkeypatch.setattr(dock.label.live_mode._worker, "ask", lambda wanted: None)
    dock.label.from_scratch.setChecked(True)
    click(dock.label.paint)
    for class_id in (1, 2):
        dock.session.layers.paint_layer("a").paint((20 * class_id, 20), class_id)
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=5000)
    click(getattr(dock.label, first))
    wait_idle(dock)
    if first == "train":
        assert "Finished" in dock.label.bar.format()
        assert not dock.label.bar.isHidden()
        click(dock.label.live)
    else:
        click(dock.label.train)
        assert not dock.label.bar.isHidden()
        wait_idle(dock)
    assert dock.label.live_mode.on
    assert dock.label.bar.isHidden()


def test_a_run_that_vanished_is_told(stopped, click):
    (stopped.session.project / "pretrain-1" / "checkpoint.safetensors").unlink()
    click(stopped.pretrain.pause)
    assert "not in the project any more" in stopped.status.text()
    assert not stopped.pretrain.pause.isEnabled()


def test_a_network_that_lacks_its_readout_replaces_none_that_is_in_use(ready, engine, tmp_path):
    session = ready.session
    networks = [ModelOnDisk(tmp_path / name, 1, 2, ModelCard(classes=session.state.classes)) for name in ("rough", "good")]
    for network in networks:
        network.path.touch()
        engine.models[network.path] = network
    rough, good = networks
    stopped = Done("finetune", 5, rough.path, stopped=True, summary={"classes_from": NOT_FITTED})
    session.state.job = "finetune"
    session.event.emit(stopped)
    assert session.state.segmenter == rough, "better than none"
    assert "rough" in ready.status.text()
    session.state.segmenter = good
    session.event.emit(Score("finetune", 5, 0.3, {"nucleus": 0.3}, 9))
    session.event.emit(stopped)
    assert not ready.label.score.text(), "no score of a network that is not in use"
    assert session.state.segmenter == good
    assert "the network that was in use stays" in ready.status.text()
    session.state.job = None


def test_the_button_to_paint_looks_pressed_while_a_brush_is_in_hand(ready, click, qtbot):
    button = ready.label.paint
    ready.session.opener.open(ready.session.state.images.records[0])
    qtbot.waitUntil(lambda: ready.session.state.image is not None, timeout=5000)
    assert not button.isChecked()
    click(button)
    assert button.isChecked()
    click(button)
    layer = ready.session.layers.paint_layer("em_0.png")
    assert button.isChecked()
    assert layer.mode == "paint", "a second click takes nothing out of the hand"
    layer.mode = "pan_zoom"
    assert not button.isChecked()
    layer.mode = "fill"
    assert button.isChecked()
    ready._viewer.layers.selection.active = ready._viewer.layers["em_0.png"]
    assert not button.isChecked()


def test_closing_napari_stops_the_job_and_keeps_the_paint(ready, engine, click, qtbot):
    viewer, session = ready._viewer, ready.session
    ready.session.opener.open(session.state.images.records[0])
    qtbot.waitUntil(lambda: session.state.image is not None, timeout=5000)
    click(ready.label.paint)
    session.layers.paint_layer("em_0.png").paint((20, 20), 2)
    project = session.project
    engine.steps, engine.step_seconds = 100_000, 0.01
    click(ready.pretrain.start)
    qtbot.waitUntil(lambda: session.state.phase is Phase.RUNNING, timeout=5000)
    over = session.runner._over
    viewer.close()
    qtbot.waitUntil(over.is_set, timeout=5000)
    assert (saved_paint(project) == 2).any()


def test_open_layers_do_instead_of_a_folder(make_dock, click, wait_idle):
    dock = make_dock()
    assert not dock.images.use_layers.isEnabled()
    rng = np.random.default_rng(0)
    dock._viewer.add_image(rng.random((3, 32, 32)), name="stack", scale=(1, 4, 4), units=("nm", "nm", "nm"))
    dock._viewer.add_image(rng.integers(0, 255, (32, 32, 3), np.uint8), name="photo", rgb=True)
    click(dock.images.use_layers)
    wait_idle(dock)
    images = dock.session.state.images
    assert [record.name for record in images.records] == ["stack[0]", "stack[1]", "stack[2]"]
    assert images.pixel_size == PixelSize(y=4, x=4, unit="nanometer")
    assert "3 channels" in images.skipped[0].reason


def test_another_pixel_size_is_warned_about_and_rescaled(make_dock, engine, click, wait_idle):
    dock = make_dock()
    size = PixelSize(y=8, x=8, unit="nanometer")
    dock._viewer.add_image(np.random.default_rng(0).random((32, 32)), name="em", scale=(8, 8), units=("nm", "nm"))
    give_network(dock, engine, dock.session.state.classes, size.replace(y=4, x=4))
    wait_idle(dock)
    assert "8 nm" in dock.label.pixel_note.text()
    assert dock.label.rescale.isVisibleTo(dock.label)
    click(dock.label.segment)
    wait_idle(dock)
    assert engine.segment_pixel_size == size
    dock.label.rescale.setChecked(False)
    click(dock.label.segment)
    wait_idle(dock)
    assert engine.segment_pixel_size is None


def test_segment_visible_takes_every_visible_image(make_dock, engine, click, wait_idle):
    dock = make_dock()
    rng = np.random.default_rng(0)
    for name in "abc":
        dock._viewer.add_image(rng.random((32, 32)), name=name)
    dock._viewer.layers["b"].visible = False
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    dock.label.probabilities.setChecked(True)
    click(dock.label.segment_visible)
    wait_idle(dock)
    names = [layer.name for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION]
    assert names == ["a · segmentation", "c · segmentation"]
    assert sum(layer.metadata.get(KIND) == Kind.PROBABILITY for layer in dock._viewer.layers) == 4


def test_the_box_shows_and_hides_the_probability_of_each_class_at_once(make_dock, engine, click, wait_idle, qtbot):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((2, 32, 32)), name="a")
    long = dock.session.state.classes[1].replace(name="mitotic nuclei in late anaphase (bright, paired)")
    give_network(dock, engine, (dock.session.state.classes[0], long))
    wait_idle(dock)

    def shown():
        return [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.PROBABILITY]

    box = dock.label.probabilities
    click(dock.label.segment)
    wait_idle(dock)
    assert not shown()
    box.setChecked(True)
    assert [layer.name for layer in shown()] == ["a · prob. background", "a · prob. mitotic nuclei…"]
    assert [layer.visible for layer in shown()] == [False, True], "they do not lie over each other"
    assert all(layer.blending == "translucent" and layer.opacity == 0.5 for layer in shown())
    first = shown()
    dock._viewer.layers["a"].data = 1 - dock._viewer.layers["a"].data
    before = [np.array(layer.data) for layer in first]
    click(dock.label.segment)
    wait_idle(dock)
    assert shown() == first
    assert not any(np.array_equal(layer.data, old) for layer, old in zip(first, before, strict=True))
    step = dock._viewer.dims.current_step[0]
    dock._viewer.dims.set_current_step(0, 1 - step)
    qtbot.waitUntil(lambda: not shown())
    dock._viewer.dims.set_current_step(0, step)
    qtbot.waitUntil(lambda: len(shown()) == 2)
    box.setChecked(False)
    assert not shown()
    click(dock.label.segment)
    wait_idle(dock)
    assert not shown()


@pytest.mark.parametrize("how", ["done", "one fails", "all fail", "stopped"])
def test_segmentation_is_said_to_be_done_only_if_it_is(make_dock, engine, click, wait_idle, monkeypatch, how):
    dock = make_dock()
    for name in "ab":
        dock._viewer.add_image(np.full((32, 32), float(name == "b")), name=name)
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    segment = engine.segment

    def other(model, image, **given):
        if how == "all fail" or (how == "one fails" and image.any()):
            raise DataError("the model needs 3 channels")
        if how == "stopped":
            given["control"].stop()
            return
        yield from segment(model, image, **given)

    monkeypatch.setattr(engine, "segment", other)
    click(dock.label.segment if how == "all fail" else dock.label.segment_visible)
    wait_idle(dock)
    said = {"done": "Segmentation is done.", "stopped": "Segmentation was stopped."}
    assert dock.status.text() == said.get(how, "The model needs 3 channels.")
    assert dock.label.bar.isHidden()


def test_what_a_segmentation_was_warned_of_is_still_there_when_it_is_done(make_dock, engine, click, wait_idle, monkeypatch):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((40, 50)), name="a")
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    segment = engine.segment

    def warned(*given, **settings):
        yield Notice("segment", "all of it is black to the network")
        yield from segment(*given, **settings)

    monkeypatch.setattr(engine, "segment", warned)
    click(dock.label.segment)
    wait_idle(dock)
    assert dock.status.text() == "Segmentation is done. All of it is black to the network."
    monkeypatch.undo()
    click(dock.label.segment)
    wait_idle(dock)
    assert dock.status.text() == "Segmentation is done."


def test_what_many_slices_are_warned_of_is_said_once(make_dock, engine, click, wait_idle, monkeypatch):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((5, 40, 50)), name="a")
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    segment, part = engine.segment, iter(range(95, 100))

    def warned(*given, **settings):
        yield Notice("segment", f"{next(part)} % of it is black to the network")
        yield from segment(*given, **settings)

    monkeypatch.setattr(engine, "segment", warned)
    before = len(warnings())
    click(dock.label.segment_slices)
    wait_idle(dock)
    first = "a[2]: 95 % of it is black to the network."
    assert warnings()[before:] == [first]
    assert dock.status.text() == f"Segmentation is done. {first} So it is with 5 images."


def test_figures_are_of_the_image_and_the_network_that_are_named(make_dock, engine, click, wait_idle):
    dock = make_dock()
    for name in "ab":
        dock._viewer.add_image(np.random.default_rng(0).random((40, 50)), name=name)
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    click(dock.look.merge_map)
    wait_idle(dock)
    figures, selection = dock.look.figures, dock._viewer.layers.selection
    assert "tokens" in figures.text()
    selection.active = dock._viewer.layers["a"]
    assert not figures.text()
    selection.active = dock._viewer.layers["b"]
    assert "tokens" in figures.text()
    model = dock.session.state.segmenter
    dock.session.state.segmenter = ModelOnDisk(model.path, 1, 2, ModelCard(classes=default_classes([1, 2])))
    assert not figures.text(), "the file was written anew"


def test_of_a_large_image_the_middle_of_the_view_is_looked_at(make_dock, engine, click, wait_idle):
    dock = make_dock()
    pixels = np.zeros((1600, 2000), np.uint8)
    image = dock._viewer.add_image(pixels, name="large", scale=(2, 2), translate=(10, 20))
    dock._viewer.scene.camera.center = (0, 10 + 2 * 800, 20 + 2 * 1200)
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    click(dock.look.pca)
    wait_idle(dock)
    assert engine.region == (slice(32, 1568), slice(432, 1968))
    features = dock._viewer.layers["large · PCA stage 2"]
    assert features.data.shape == (1536, 1536, 3)
    np.testing.assert_array_equal(features.scale, image.scale)
    np.testing.assert_array_equal(features.translate, (10 + 2 * 32, 20 + 2 * 432))


def test_a_network_whose_file_is_gone_is_told(make_dock, engine, click, wait_idle):
    dock = make_dock()
    dock._viewer.add_image(np.zeros((40, 50), np.uint8), name="a")
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    dock.session.state.model.path.unlink()
    click(dock.look.pca)
    assert "cannot be read" in dock.status.text()
    assert "inspect" not in engine.calls


def test_a_network_with_labels_that_layers_do_not_hold_is_refused(tmp_path):
    torch.manual_seed(0)
    network = Segmenter(ModelConfig.preset("tiny"), 2)
    network.card = ModelCard(classes=default_classes((1, 300)))
    path = save_model(network, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"by the label 300, and the dock holds labels up to 255"):
        Engine().read_model(path)


def test_a_loaded_segmenter_brings_its_classes(make_dock, engine, wait_idle):
    dock = make_dock()
    classes = tuple(info.replace(name=f"{info.name} of the model") for info in dock.session.state.classes)
    give_network(dock, engine, classes)
    wait_idle(dock)
    assert dock.label.classes.item(0, 1).text() == "background of the model"
    assert "2 classes" in dock.pretrain.model_note.text()


def test_a_class_that_a_network_calls_0_is_a_class_like_the_others(make_dock, engine, click, wait_idle, qtbot):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((32, 48)), name="em")
    give_network(dock, engine, default_classes([0, 1], foreground=True))
    wait_idle(dock)
    names = {info.id: info.name for info in dock.session.state.classes}
    assert list(names.values()) == ["background", "foreground"]
    assert 0 not in names
    click(dock.label.paint)
    layer = dock.session.layers.paint_layer("em")
    assert layer.colormap.map(np.array([0]))[0, 3] == 0, "what is not painted is seen through"
    for place, class_id in enumerate(names):
        dock.label.classes.selectRow(place)
        layer.paint((10, 10 + 15 * place), layer.selected_label)
        assert (layer.data == class_id).any()
    qtbot.waitUntil(lambda: dock.session.state.painted.keys() == names.keys(), timeout=5000)
    assert dock.label.train.isEnabled()
    layer.data = np.zeros_like(layer.data)
    click(dock.label.segment)
    wait_idle(dock)
    [shown] = [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION]
    assert set(np.unique(shown.data)) == names.keys()
    dock.session.layers.color_classes(dock.session.state.classes)
    assert shown.colormap.map(np.array(list(names)))[:, 3].tolist() == [1, 1]
    dock.label.next.tool.start()
    dock.label.next.tool._accept(dock.session.layers.current(), [(-1, -1), (-1, 49), (33, 49), (33, -1)])
    qtbot.waitUntil(lambda: layer.data.all(), timeout=5000)
    np.testing.assert_array_equal(layer.data, shown.data)


def test_a_loaded_network_says_what_it_calls_otherwise(make_dock, engine, click, wait_idle):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((32, 48)), name="em")
    click(dock.label.paint)
    dock.session.layers.paint_layer("em").paint((10, 10), 1)
    give_network(dock, engine, default_classes([1, 2]))
    wait_idle(dock)
    assert "What was painted as “background” is “class 1” now." in dock.status.text()


def test_removing_a_class_removes_its_paint(make_dock, click):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((32, 32)), name="em")
    assert not dock.label.panel.remove.isEnabled()
    click(dock.label.panel.add)
    click(dock.label.paint)
    layer = dock.session.layers.paint_layer("em")
    assert layer.selected_label == 3, "the new class is selected"
    layer.paint((5, 5), 3)
    click(dock.label.panel.remove)
    assert not layer.data.any()
    assert dock.label.classes.rowCount() == 2


def test_a_name_that_is_taken_is_refused(make_dock):
    dock = make_dock()
    dock.label.classes.item(0, 1).setText("structure")
    assert "already a class" in errors()[-1]
    assert dock.label.classes.item(0, 1).text() == "background"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_clipped_at_380_pixels(make_dock, qtbot, theme):
    dock = make_dock()
    dock._viewer.theme = theme
    dock.resize(380, 900)
    qtbot.wait(20)
    for button in dock.findChildren(QPushButton):
        needed = button.fontMetrics().horizontalAdvance(button.text())
        assert button.width() == 32 or button.width() >= needed, button.text()
    background = dock.pretrain.curve.plot.backgroundBrush().color().lightness()
    assert (background < 128) is (theme == "dark")
    line = dock.pretrain.curve._curve.opts["pen"].color().lightness()
    assert abs(line - background) > 90, "the curve is seen"


def test_long_names_are_shortened_and_whole_in_the_tooltip(make_dock, engine, make_napari_viewer, wait_idle, click, qtbot):
    dock = make_dock(make_napari_viewer(show=True))
    image, folder = "specimen" * 20 + ".tif", "network" * 20
    dock._viewer.add_image(np.random.default_rng(0).random((40, 50)), name=image)
    click(dock.images.use_layers)
    wait_idle(dock)
    dock.session.settings = dock.session.settings.replace(project=str(dock.session.project / folder))
    give_network(dock, engine, dock.session.state.classes)
    wait_idle(dock)
    click(dock.label.paint)
    dock.resize(380, 900)
    lines = {dock.look.image_note: (image, folder), dock.pretrain.model_note: (folder,), dock.status: (image,)}
    for line, names in lines.items():
        assert all(name in line.text() and name in line.toolTip() for name in names)
    area = dock.findChild(QScrollArea)
    qtbot.waitUntil(lambda: area.widget().width() <= area.viewport().width(), timeout=1000)
    assert area.horizontalScrollBar().maximum() == 0
    for line in lines:
        widest = max(line.fontMetrics().horizontalAdvance(word) for word in re.split("[ /]", QLabel.text(line)))
        assert widest <= line.contentsRect().width()
        line.setText("On 2024-03-11_HeLa-Kyoto_H2B-mCherry_siRNA-scrambled_plate03_well-B07_field-008_DAPI_z-max_63x.png.")
        assert QLabel.text(line).count("…") == 1, "a name with hyphens takes a line, too, and not four"
        line.setText("short")
        assert line.toolTip() == ""
    names = dock.images.list
    assert image in names.item(0).toolTip()
    assert not names.horizontalScrollBar().isVisible(), "where there is one, Qt shortens nothing"


def test_the_dock_follows_the_font(make_dock, make_napari_viewer, qtbot, monkeypatch):
    """With larger letters it is as wide as its content, which cannot be scrolled sideways, and all of it has them."""
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    viewer.window.resize(1200, 800)
    for section in dock.findChildren(Section):
        section.open()
    area, table = dock._area, dock.label.classes
    texts = (dock.status, dock.sections[2].heading, table, table.horizontalHeader(), dock.images.folder.line)

    def follows(size):
        painted = table.horizontalHeader().fontMetrics().horizontalAdvance("Painted px")
        return (
            {text.fontInfo().pointSize() for text in texts} == {size}
            and area.viewport().width() >= area.widget().minimumSizeHint().width()
            and table.viewport().height() >= 2 * table.rowHeight(1) >= 2 * table.fontMetrics().height()
            and table.columnWidth(PIXELS) > painted
        )

    for size in (16, 12, 20):
        monkeypatch.setattr(get_settings().appearance, "font_size", size)
        qtbot.waitUntil(partial(follows, size), timeout=2000)


def test_the_numbers_beside_the_loss_curve_are_not_cut_off(qtbot):
    curve = LossCurve()
    qtbot.addWidget(curve)
    for step, loss in enumerate((2.74, 2.885, 2.745), start=1):
        curve.add(step, loss)
    curve.draw()
    curve.resize(320, curve.height())
    curve.show()
    curve.grab()
    axis = curve.plot.getAxis("left")
    canvas = QPixmap(1, 1)
    painter = QPainter(canvas)
    _, _, texts = axis.generateDrawSpecs(painter)
    painter.end()
    assert len(texts) > 2
    for rect, _, text in texts:
        assert curve.plot.rect().contains(curve.plot.mapFromScene(axis.mapRectToScene(rect)).boundingRect()), text


def test_every_dead_button_says_why(make_dock):
    dock = make_dock()
    dead = [button for button in dock.findChildren(QPushButton) if not button.isEnabled()]
    assert len(dead) >= 10
    assert all(button.toolTip().endswith((".", "”.")) for button in dead)


def test_a_grey_step_says_in_a_line_what_comes_first(make_dock, engine, click, wait_idle, qtbot):
    dock = make_dock()
    lines = (dock.pretrain.first, dock.label.first, dock.look.first)
    said = lambda: tuple(line.text() for line in lines if not line.isHidden())  # noqa: E731
    images, network = "Choose images in step 1 first.", "Pretrain in step 2 or load a model file first."
    assert said() == (images, "Choose images in step 1 first, and click one in its list.", network)
    dock._viewer.add_image(np.random.default_rng(0).random((64, 64)), name="a")
    assert said() == (images, network.replace(".", ", or choose “from scratch”."), network)
    click(dock.images.use_layers)
    wait_idle(dock)
    give_network(dock, engine)
    assert not any("Wait" in line for line in said()), "that a job is under way is seen"
    wait_idle(dock)
    assert said() == ("Paint some pixels of at least two classes first.",)
    click(dock.label.paint)
    for class_id in (1, 2):
        dock.session.layers.paint_layer("a").paint((20 * class_id, 20), class_id)
    qtbot.waitUntil(lambda: said() == (), timeout=5000)


def test_opening_the_dock_imports_no_torch():
    code = (
        "import sys, napari_affmae.widgets.dock as d, napari_affmae.widgets.reader, napari_affmae.widgets.samples\n"
        "from napari.components import ViewerModel\n"
        "from napari_affmae.widgets.layers import OverlayLayers\n"
        "OverlayLayers(ViewerModel())\n"
        "bad = sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'triton', 'lightning_fabric', 'safetensors'})\n"
        "sys.exit(', '.join(bad) or 0)\n"
    )
    source = Path(napari_affmae.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_message_does_not_restyle_the_dock(make_dock, qtbot):
    """Qt measures everything in the dock anew when its style sheet is set, for longer than a stroke can wait."""
    dock = make_dock()

    class Watch(QObject):
        styled = 0

        def eventFilter(self, watched, event):
            Watch.styled += event.type() == QEvent.Type.StyleChange
            return False

    watch = Watch()
    dock.installEventFilter(watch)
    dock.session.say("One.")
    dock.session.say("Another.")
    assert Watch.styled == 0
    before = dock.status.styleSheet()
    dock.session.status.emit("An error.", True)
    assert dock.status.styleSheet() != before
    dock._viewer.theme = "light" if dock._viewer.theme == "dark" else "dark"
    assert Watch.styled > 0


SCRIPT = """
import sys
from pathlib import Path
import napari, numpy as np
from napari_affmae.widgets.dock import AffmaeDock
from napari_affmae.widgets.settings_store import DockSettings, SettingsStore
folder = Path(sys.argv[1])
store = SettingsStore(folder / "settings.json")
store.save(DockSettings(project=str(folder / "project")))
viewer = napari.Viewer(show=False)
dock = AffmaeDock(viewer, store=store)
viewer.window.add_dock_widget(dock)
viewer.add_image(np.zeros((32, 32)), name="em_0.png")
dock.label.paint.click()
dock.session.layers.paint_layer("em_0.png").data_setitem((np.array([3]), np.array([5])), 1)
"""


def test_a_script_may_end_with_the_window_open(tmp_path):
    """It says nothing, and what it painted is saved."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    paint = saved_paint(tmp_path / "project")
    assert paint[3, 5] == 1
    assert np.count_nonzero(paint) == 1


def test_a_typed_folder_can_be_read_at_once(make_dock, image_folder, click, wait_idle):
    dock = make_dock()
    scan = dock.images.scan
    assert not scan.isEnabled()
    QTest.keyClicks(dock.images.folder.line, str(image_folder))
    assert scan.isEnabled(), "the cursor is still in the line"
    click(scan)
    wait_idle(dock)
    assert dock.session.state.images is not None
    dock.images.folder.line.clear()
    assert not scan.isEnabled()


def test_a_step_that_is_opened_below_the_others_is_scrolled_to(make_dock, make_napari_viewer, click, qtbot):
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    viewer.window.resize(900, 600)
    qtbot.waitExposed(viewer.window._qt_window)
    dock.open_step(2)
    last = dock.label.findChildren(Section)[-1]  # a part of the step that is opened below
    area, step = dock._area, dock.sections[2]
    bar = area.verticalScrollBar()
    qtbot.wait(100)
    assert bar.value() == 0
    click(step.heading)
    seen = area.viewport().height()
    qtbot.waitUntil(lambda: bar.value() == min(step.y(), step.y() + step.height() - seen) > 0, timeout=2000)
    click(last.heading)
    qtbot.waitUntil(lambda: not last.content.visibleRegion().isEmpty(), timeout=2000)
    bar.setValue(0)
    click(step.heading)
    click(dock.sections[0].heading)
    qtbot.wait(50)
    assert bar.value() == 0, "what is seen already stays where it is"
    dock.shut_down()
