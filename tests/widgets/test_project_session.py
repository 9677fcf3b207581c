"""The open project: strokes are kept by themselves, images come back, classes are undone in one step, snapshots restored."""

from __future__ import annotations

import errno
import json
import os
import re
import time

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from skimage.io import imsave

from napari_affmae.card import ClassInfo, ModelCard
from napari_affmae.data.label_array import LabelArray
from napari_affmae.data.project_folder import read_project
from napari_affmae.errors import StorageError
from napari_affmae.widgets import keeper as keeper_module
from napari_affmae.widgets.kinds import KIND, Kind
from napari_affmae.widgets.project_writer import ProjectWriter
from napari_affmae.widgets.session import QUIET_MILLISECONDS
from napari_affmae.widgets.state import ModelOnDisk, Phase


def read_folder(dock, folder, click, wait_idle):
    dock.images.folder.set_text(str(folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)


def open_image(dock, qtbot, place):
    record = dock.session.state.images.records[place]
    item = dock.images.list.item(place)
    where = dock.images.list.visualItemRect(item).center()
    qtbot.mouseClick(dock.images.list.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(where))
    opened(dock, qtbot, record.name)


def opened(dock, qtbot, name):
    def there():
        image = dock.session.state.image
        return image is not None and image.name == name and dock.session.restorer.is_done(name)

    qtbot.waitUntil(there, timeout=5000)


@pytest.fixture
def dock(make_dock, make_napari_viewer, image_folder, click, wait_idle, qtbot):
    """A dock in a shown viewer with a folder read, the first image open and the brush of the first class in hand."""
    dock = make_dock(make_napari_viewer(show=True))
    qtbot.waitExposed(dock._viewer.window._qt_window)
    read_folder(dock, image_folder, click, wait_idle)
    open_image(dock, qtbot, 0)
    click(dock.label.paint)
    return dock


@pytest.fixture
def again(make_napari_viewer, make_dock, image_folder, click, wait_idle, qtbot):
    """Return a function that opens a second dock on the same folder, as after a restart."""

    def again():
        dock = make_dock(make_napari_viewer(show=True))
        read_folder(dock, image_folder, click, wait_idle)
        return dock

    return again


def canvas_of(dock):
    return dock._viewer.window._qt_viewer.canvas.native


def stroke(dock, offset=0):
    """Press, drag and release the left button near the middle of the canvas."""
    canvas = canvas_of(dock)
    middle = canvas.rect().center() + QPoint(offset, 0)
    QTest.mouseMove(canvas, middle)
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle)
    for step in range(1, 4):
        QTest.mouseMove(canvas, middle + QPoint(0, 10 * step))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle + QPoint(0, 30))


def key(dock, key, *modifiers):
    held = Qt.KeyboardModifier.NoModifier
    for modifier in modifiers:
        held |= modifier
    canvas_of(dock).setFocus()
    QTest.keyClick(canvas_of(dock), key, held)


def paint_of(dock, name="em_0.png"):
    return dock.session.layers.paint_layer(name)


def on_disk(dock, name="em_0.png", kind="paint"):
    file = read_project(dock.session.project)
    return LabelArray(dock.session.project / file.labels_of(name), kind).read()


def is_saved(dock, name="em_0.png"):
    saved = on_disk(dock, name)
    return saved is not None and np.array_equal(saved, paint_of(dock, name).data)


def state_of(dock, name="em_0.png"):
    return read_project(dock.session.project).state(name)


# Saving


def test_a_stroke_is_saved_within_a_second_without_being_asked(dock, qtbot):
    stroke(dock)
    assert paint_of(dock).data.any(), "the mouse reached the layer"
    qtbot.waitUntil(lambda: state_of(dock) == "painted", timeout=1000)
    assert is_saved(dock)
    stroke(dock, offset=80)
    qtbot.waitUntil(lambda: is_saved(dock), timeout=1000)
    key(dock, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: is_saved(dock), timeout=1000)


@pytest.mark.parametrize("mode", ["fill", "polygon"])
def test_fill_and_polygon_are_strokes(dock, qtbot, mode):
    layer = paint_of(dock)
    if mode == "fill":
        layer.data[10:30, 10:30] = 2
        layer.fill((15, 15), 1)
    else:
        layer.paint_polygon([(5, 5), (5, 30), (30, 30)], 1)
    qtbot.waitUntil(lambda: is_saved(dock) and (on_disk(dock) == 1).any(), timeout=1000)
    qtbot.waitUntil(lambda: dock.session.state.painted.get(1) == (layer.data == 1).sum(), timeout=1000)


def test_choosing_a_class_keeps_fill_and_polygon(dock):
    layer = paint_of(dock)
    for mode in ("fill", "polygon"):
        layer.mode = mode
        key(dock, Qt.Key.Key_S)
        assert layer.mode == mode
    layer.mode = "pan_zoom"
    dock.label.classes.selectRow(1)
    assert layer.mode == "paint"


def test_saving_is_not_done_in_the_window_s_thread(dock, qtbot, monkeypatch):
    import threading

    threads = []
    write = LabelArray.write
    monkeypatch.setattr(LabelArray, "write", lambda *words: threads.append(threading.current_thread()) or write(*words))
    stroke(dock)
    qtbot.waitUntil(lambda: bool(threads), timeout=1000)
    assert threading.main_thread() not in threads


def test_what_cannot_be_saved_is_said_and_tried_again(dock, qtbot, monkeypatch):
    write = LabelArray.write

    def fail(*words):
        raise StorageError("the disk is full; free some space")

    monkeypatch.setattr(LabelArray, "write", fail)
    stroke(dock)
    qtbot.waitUntil(lambda: "disk is full" in dock.status.text(), timeout=1000)
    monkeypatch.setattr(LabelArray, "write", write)
    stroke(dock, offset=60)
    qtbot.waitUntil(lambda: is_saved(dock), timeout=1000)
    said = "The disk is full; free some space; until then paint is in memory only."
    assert [one.message for one in notification_manager.records].count(said) == 1
    qtbot.waitUntil(lambda: dock.status.text() == "All paint is saved again.", timeout=1000)


def test_images_are_opened_with_their_paint_while_none_can_be_saved(dock, qtbot, monkeypatch):
    def fail(*words):
        time.sleep(0.3)
        raise StorageError("the disk is full; free some space")

    monkeypatch.setattr(LabelArray, "write", fail)
    stroke(dock)
    qtbot.waitUntil(lambda: dock.session.keeper._saving is not None, timeout=1000)
    read = LabelArray.read
    monkeypatch.setattr(LabelArray, "read", lambda self: time.sleep(0.3) or read(self))
    open_image(dock, qtbot, 1)
    assert paint_of(dock).data.any(), "what could not be saved is still there"


def test_closing_says_that_paint_is_not_saved_and_why(dock, qtbot, monkeypatch):
    def fail(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    stroke(dock)
    dock.session.status.connect(lambda text, is_error: pytest.fail("the forms may be gone"))
    notification_manager.records.clear()
    dock.session.close()
    [said] = [one.message for one in notification_manager.records]
    assert said.startswith("What was painted last is not saved: the ")
    assert "No space left on device; free some space" in said


def test_a_click_says_why_paint_cannot_be_saved(dock, click, qtbot, monkeypatch):
    dock.label.from_scratch.setChecked(True)
    stroke(dock)
    paint_of(dock).paint((20, 20), 2)
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=1000)

    def fail(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    paint_of(dock).paint((40, 20), 2)
    click(dock.label.train)
    assert dock.session.state.job is None
    assert "No space left on device; free some space, or choose another project folder in step 2" in dock.status.text()


# Coming back


def test_paint_prediction_classes_and_brush_come_back(dock, again, engine, click, wait_idle, qtbot):
    click(dock.label.panel.add)
    dock.label.classes.item(2, 1).setText("background")
    assert "already a class" in dock.status.text()
    dock.label.classes.item(2, 1).setText("vesicle")
    assert dock.status.text() == "Changed “vesicle”.", "an error does not outlive what was wrong"
    dock.label.brush.setValue(17)
    stroke(dock)
    dock.label.classes.selectRow(1)
    paint_of(dock).paint((20, 20), 2)
    dock.label.from_scratch.setChecked(True)
    engine.steps = 2
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=1000)
    click(dock.label.train)
    wait_idle(dock)
    click(dock.label.segment)
    wait_idle(dock)
    qtbot.waitUntil(lambda: state_of(dock) == "predicted", timeout=1000)
    paint = paint_of(dock).data.copy()
    [before] = dock.session.layers.kept("em_0.png", Kind.SEGMENTATION)
    dock.session.keeper._timer.stop()  # as if the process had been killed
    second = again()
    opened(second, qtbot, "em_0.png")
    np.testing.assert_array_equal(paint_of(second).data, paint)
    [segmentation] = second.session.layers.kept("em_0.png", Kind.SEGMENTATION)
    np.testing.assert_array_equal(segmentation.data, before.data)
    assert [info.name for info in second.session.state.classes] == ["background", "structure", "vesicle"]
    assert second.label.brush.value() == 17
    assert "Welcome back" in second.status.text()
    assert second.session.state.painted == dock.session.state.painted


def test_a_run_that_was_cut_short_is_said_when_its_project_is_opened_again(dock, again, engine, click, qtbot, wait_idle):
    stroke(dock)
    qtbot.waitUntil(lambda: dock.session.keeper.flush(), timeout=2000)
    engine.steps, engine.step_seconds = 10_000, 0.01
    click(dock.pretrain.start)
    qtbot.waitUntil(lambda: bool(dock.pretrain.curve.points()[0]), timeout=5000)
    click(dock.pretrain.stop)
    wait_idle(dock)
    second = again()
    opened(second, qtbot, "em_0.png")
    said = r"Welcome back: going on with em_0\.png\. pretrain-1 was cut short at \d+%: Resume in step 2 goes on with it\."
    assert re.fullmatch(said, second.status.text())


def test_paint_of_images_that_are_not_open_is_counted_and_trained_on(dock, again, engine, click, wait_idle, qtbot):
    stroke(dock)
    open_image(dock, qtbot, 1)
    click(dock.label.paint)
    dock.label.classes.selectRow(1)
    stroke(dock)
    dock.session.save_paint()
    painted = dict(dock.session.state.painted)
    assert set(painted) == {1, 2}
    second = again()
    qtbot.waitUntil(lambda: second.session.state.painted == painted, timeout=2000)
    assert len(second.session.layers.paint_layers()) <= 1
    second.label.from_scratch.setChecked(True)
    engine.steps = 2
    click(second.label.train)
    wait_idle(second)
    assert {example.record.name for example in engine.examples} == {"em_0.png", "em_1.png"}
    np.testing.assert_array_equal(
        next(example.labels for example in engine.examples if example.record.name == "em_0.png"), paint_of(dock).data
    )


def test_a_damaged_project_file_is_set_aside_and_its_paint_stays(dock, again, qtbot):
    stroke(dock)
    dock.session.save_paint()
    paint = paint_of(dock).data.copy()
    dock.session.keeper._timer.stop()
    project = dock.session.project
    (project / "project.json").write_text('{"classes":')
    second = again()
    assert len(list(project.glob("damaged-*.json"))) == 1
    open_image(second, qtbot, 0)
    np.testing.assert_array_equal(paint_of(second).data, paint)


def test_paint_whose_class_was_lost_gets_one(dock, again, qtbot):
    paint_of(dock).data[5:9, 5:9] = 77
    paint_of(dock).refresh()
    qtbot.waitUntil(lambda: is_saved(dock), timeout=1000)
    dock.session.keeper.flush()
    second = again()
    opened(second, qtbot, "em_0.png")
    assert [info.id for info in second.session.state.classes] == [1, 2, 77]
    assert (paint_of(second).data == 77).sum() == 16


def test_another_project_folder_takes_open_paint_along_but_never_overwrites(dock, qtbot, tmp_path):
    stroke(dock)
    dock.session.save_paint()
    first, paint = dock.session.project, paint_of(dock).data.copy()
    dock.pretrain.project.set_text(str(tmp_path / "other"))
    dock.pretrain.project.chosen.emit("")
    assert dock.session.project == tmp_path / "other"
    qtbot.waitUntil(lambda: is_saved(dock), timeout=2000)
    stroke(dock, offset=80)
    dock.session.save_paint()
    changed = paint_of(dock).data.copy()
    dock.pretrain.project.set_text("")
    dock.pretrain.project.chosen.emit("")
    assert dock.session.project == first
    np.testing.assert_array_equal(paint_of(dock).data, paint)
    dock.session.save_paint()
    dock.pretrain.project.set_text(str(tmp_path / "other"))
    dock.pretrain.project.chosen.emit("")
    np.testing.assert_array_equal(paint_of(dock).data, changed)


# Another folder of images


@pytest.fixture
def namesake(tmp_path):
    """Return a function that makes a folder of other images with the same names."""

    def make(folder):
        folder.mkdir(parents=True)
        for seed in range(3):
            pixels = np.random.default_rng(seed + 10).integers(0, 255, (64, 96), np.uint8)
            imsave(folder / f"em_{seed}.png", pixels, check_contrast=False)
        return folder

    return make


def test_paint_never_gets_onto_an_image_of_the_same_name_in_another_folder(
    dock, image_folder, namesake, tmp_path, click, wait_idle, qtbot
):
    stroke(dock)
    paint = paint_of(dock).data.copy()
    first = dock.session.project
    read_folder(dock, namesake(tmp_path / "others"), click, wait_idle)
    assert not dock.session.layers.images(), "images of the folder before are closed"
    open_image(dock, qtbot, 0)
    click(dock.label.paint)
    assert not paint_of(dock).data.any()
    assert dock.session.state.painted == {}
    dock.session.save_paint()
    assert not read_project(dock.session.project).images
    read_folder(dock, image_folder, click, wait_idle)
    assert dock.session.project == first
    opened(dock, qtbot, "em_0.png")
    np.testing.assert_array_equal(paint_of(dock).data, paint)


def test_folders_of_the_same_name_have_projects_of_their_own(
    dock, again, image_folder, namesake, tmp_path, click, wait_idle, qtbot
):
    stroke(dock)
    dock.session.save_paint()
    first = dock.session.project
    others = namesake(tmp_path / "elsewhere" / image_folder.name)
    read_folder(dock, others, click, wait_idle)
    second = dock.session.project
    assert second.name == f"{first.name}-2"
    open_image(dock, qtbot, 0)
    click(dock.label.paint)
    assert not paint_of(dock).data.any()
    stroke(dock, offset=60)
    dock.session.save_paint()
    assert again().session.project == first
    read_folder(dock, others, click, wait_idle)
    assert dock.session.project == second


def test_images_that_were_moved_find_their_project(dock, image_folder, tmp_path, click, wait_idle, qtbot):
    stroke(dock)
    dock.session.save_paint()
    first = dock.session.project
    moved = image_folder.rename(tmp_path / "moved").rename(tmp_path / "home" / image_folder.name)
    read_folder(dock, moved, click, wait_idle)
    assert dock.session.project == first
    opened(dock, qtbot, "em_0.png")
    assert paint_of(dock).data.any()


def test_a_chosen_project_of_other_images_is_said(dock, namesake, tmp_path, click, wait_idle):
    dock.pretrain.project.set_text(str(tmp_path / "mine"))
    dock.pretrain.project.chosen.emit("")
    stroke(dock)
    dock.session.save_paint()
    read_folder(dock, namesake(tmp_path / "others"), click, wait_idle)
    said = [one.message for one in notification_manager.records if "share their paint" in one.message]
    assert len(said) == 1
    assert "share their paint" in dock.status.text(), "nothing writes over it"
    QTest.qWait(500)
    assert not dock.session.layers.images(), "nor is an image opened that would show the paint of another one"


def test_a_folder_is_not_left_while_its_paint_cannot_be_saved(dock, namesake, tmp_path, click, wait_idle, monkeypatch):
    def fail(*words):
        raise StorageError("the disk is full; free some space")

    source = dock.session.state.source
    with monkeypatch.context() as patch:
        patch.setattr(LabelArray, "write", fail)
        stroke(dock)
        read_folder(dock, namesake(tmp_path / "others"), click, wait_idle)
        assert dock.session.state.source == source
        assert paint_of(dock).data.any()
        assert "disk is full" in dock.status.text()


def test_a_dock_that_is_opened_again_keeps_what_is_painted_on_old_layers(dock, make_dock, qtbot):
    stroke(dock)
    dock._viewer.window.remove_dock_widget(dock)
    second = make_dock(dock._viewer)
    stroke(second, offset=70)
    qtbot.waitUntil(lambda: is_saved(second), timeout=1000)
    assert second.session.state.painted[1] == np.count_nonzero(paint_of(second).data)
    before = paint_of(second).data.copy()
    second.label.classes.selectRow(0)
    second.session.layers.hold_brush(paint_of(second), 1, 5)
    key(second, Qt.Key.Key_S)
    assert paint_of(second).selected_label == 2
    key(second, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert np.count_nonzero(paint_of(second).data) < np.count_nonzero(before)


def test_images_that_only_share_a_name_do_not_share_paint(make_dock, make_napari_viewer, click, qtbot):
    """napari calls every array “Image”, and a file may be called as one of another experiment."""
    first, second, smaller = (np.random.default_rng(seed).random(size) for seed, size in enumerate([(64, 64)] * 2 + [(40, 40)]))

    told = []

    def paint(pixels, offset):
        """Open the dock, then the image, or the other way round; paint if there is anything to paint."""
        viewer = make_napari_viewer()
        image = viewer.add_image(pixels, name="Image") if offset % 2 else None
        dock = make_dock(viewer)
        image = image or viewer.add_image(pixels, name="Image")
        told.append(dock.status.text())
        click(dock.label.paint)
        group = dock.session.layers.current().group
        layer = paint_of(dock, group)
        found = np.unique(layer.data).tolist()
        layer.paint((offset, offset), 1 + offset % 2)
        dock.session.save_paint()
        viewer.window.remove_dock_widget(dock)
        return group, found, dock.session.project

    assert paint(first, 10)[:2] == ("Image", [0])
    assert paint(second, 21)[:2] == ("Image (1)", [0]), "the paint of another image is nothing to it"
    assert paint(smaller, 12)[:2] == ("Image (2)", [0])
    assert paint(first, 30)[:2] == ("Image", [0, 1]), "its own comes back"
    group, found, project = paint(second, 40)
    assert (group, found) == ("Image (1)", [0, 2])
    assert sorted(read_project(project).images) == ["Image", "Image (1)", "Image (2)"]
    assert [text.startswith("Another “Image” was painted before") for text in told] == [False, True, True, False, True]


def test_planes_of_an_open_stack_have_states_of_their_own(make_dock, click, wait_idle, qtbot):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).random((3, 32, 40)), name="stack")
    click(dock.images.use_layers)
    wait_idle(dock)
    dock.session.opener.open(dock.session.state.images.records[2])
    qtbot.waitUntil(lambda: dock.session.state.image.name == "stack[2]", timeout=2000)
    click(dock.label.paint)
    paint_of(dock, "stack").paint((2, 10, 10), 1)
    dock.session.save_paint()
    file = read_project(dock.session.project)
    assert [file.state(record.name) for record in dock.session.state.images.records] == ["unlabelled"] * 2 + ["painted"]
    dock.session.opener.step(-1)
    qtbot.waitUntil(lambda: dock.session.state.image.name == "stack[1]", timeout=2000)
    assert len(dock.session.layers.images()) == 1, "the stack is shown, not opened once more"
    assert dock.label.image.name.text() == "slice 1 of stack", "slices are counted from 0, as the viewer does"
    assert "1 stack of 3 slices" in dock.sections[0].heading.text()


# Networks


def test_the_networks_come_back_with_the_project(dock, again, click, wait_idle, qtbot, engine, tmp_path):
    """An hour of pretraining is not asked for again after a restart."""
    click(dock.pretrain.start)
    wait_idle(dock)
    dock.label.brush.setValue(3)
    paint_of(dock).paint((10, 10), 1)
    paint_of(dock).paint((20, 20), 2)
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=2000)
    click(dock.label.train)
    wait_idle(dock)
    pretrained, segmenter = dock.session.state.pretrained, dock.session.state.segmenter
    assert segmenter is not None
    project = dock.session.project
    dock._viewer.window.remove_dock_widget(dock)

    second = again()
    assert (second.session.state.pretrained, second.session.state.segmenter) == (pretrained, segmenter)
    assert "In use: pretrain-1" in second.pretrain.model_note.text()
    settings = read_project(project).settings
    assert settings.segmenter.startswith("finetune-1"), "seen from the project, which may be moved"
    elsewhere = tmp_path / "from a colleague.safetensors"
    elsewhere.touch()
    engine.models[elsewhere] = ModelOnDisk(elsewhere, 1, 2, ModelCard(classes=segmenter.card.classes))
    second.load_model(elsewhere)
    wait_idle(second)
    second._viewer.window.remove_dock_widget(second)

    third = again()
    assert third.session.state.segmenter.path == elsewhere
    third._viewer.window.remove_dock_widget(third)
    elsewhere.unlink()
    assert again().session.state.segmenter == segmenter, "what was trained last, where the other one is gone"


def test_a_project_from_before_networks_were_remembered_brings_its_newest(dock, again, click, wait_idle):
    stroke(dock)
    click(dock.pretrain.start)
    wait_idle(dock)
    project, pretrained = dock.session.project, dock.session.state.pretrained
    dock._viewer.window.remove_dock_widget(dock)
    file = json.loads((project / "project.json").read_text())
    del file["settings"]["pretrained"], file["settings"]["segmenter"]
    (project / "project.json").write_text(json.dumps(file))
    assert again().session.state.pretrained == pretrained


# The list


def test_list_bar_and_keys_go_through_the_images(dock, click, qtbot):
    bar, images = dock.label.image, dock.images.list
    assert bar.name.text() == "1 of 3: em_0.png"
    assert not bar.previous.isEnabled()
    click(bar.next)
    opened(dock, qtbot, "em_1.png")
    assert images.currentRow() == 1
    assert dock._viewer.layers.selection.active.metadata.get(KIND) == Kind.PAINT, "the brush stays in the hand"
    key(dock, Qt.Key.Key_N)
    opened(dock, qtbot, "em_2.png")
    assert not bar.next.isEnabled()
    key(dock, Qt.Key.Key_N)
    assert dock.status.text() == "This is the last image."
    key(dock, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    opened(dock, qtbot, "em_1.png")


def test_the_list_shows_how_far_each_image_is(dock, engine, click, wait_idle, qtbot):
    words = lambda place: dock.images.list.item(place).data(Qt.ItemDataRole.AccessibleTextRole)  # noqa: E731
    assert words(0) == "em_0.png, unlabelled"
    accept = dock.label.image.accept
    assert not accept.isEnabled(), "there is nothing to be good as it is"
    assert "Nothing is painted or segmented" in accept.toolTip()
    stroke(dock)
    qtbot.waitUntil(lambda: words(0) == "em_0.png, painted", timeout=2000)
    assert accept.isEnabled()
    assert "without a segmentation" in accept.toolTip(), "there is none that could be good"
    assert dock.images.progress.text() == "1 painted, 2 unlabelled"
    dock.session.say("Nothing to accept there.")
    click(dock.label.image.accept)
    assert words(0) == "em_0.png, accepted"
    assert dock.status.text() == "em_0.png is accepted: it counts as done."
    stroke(dock, offset=70)
    qtbot.waitUntil(lambda: is_saved(dock), timeout=1000)
    assert dock.session.keeper.flush()
    assert state_of(dock) == "accepted", "more paint does not take the user's word back"
    click(dock.label.image.accept)
    assert words(0) == "em_0.png, painted"
    assert dock.status.text() == "em_0.png is not accepted any more."
    icons = {dock.images.list.item(place).icon().pixmap(14, 14).toImage().pixel(3, 7) for place in (0, 1)}
    assert len(icons) == 2


# Classes


def shown(dock):
    return [info.name for info in dock.session.state.classes]


@pytest.fixture
def three(dock, click, qtbot):
    """Three classes; the third one painted on the open image and on one that is closed."""
    open_image(dock, qtbot, 1)
    click(dock.label.panel.add)
    click(dock.label.paint)
    paint_of(dock, "em_1.png").paint((12, 12), 3)
    paint_of(dock, "em_1.png").paint((40, 40), 2)
    open_image(dock, qtbot, 0)
    paint_of(dock).paint((30, 30), 1)
    paint_of(dock).paint((40, 60), 3)
    dock.session.save_paint()
    dock._viewer.layers.remove(paint_of(dock, "em_1.png"))
    dock.session.save_paint()
    dock._viewer.layers.selection.active = paint_of(dock)
    return dock


@pytest.mark.parametrize("by", ["key", "button"])
@pytest.mark.parametrize("into", [None, 1])
def test_one_undo_puts_back_the_paint_and_the_class(three, click, qtbot, by, into):
    dock, before = three, paint_of(three).data.copy()
    closed = on_disk(dock, "em_1.png")
    painted = dict(dock.session.state.painted)
    dock.label.classes.selectRow(2)
    if into is None:
        click(dock.label.panel.remove)
    else:
        dock.label.panel._fill_menu()
        dock.label.panel._menu.actions()[into].trigger()
    assert shown(dock) == ["background", "structure"]
    after = np.where(before == 3, 0 if into is None else 2, before)
    np.testing.assert_array_equal(paint_of(dock).data, after)
    qtbot.waitUntil(lambda: not (on_disk(dock, "em_1.png") == 3).any(), timeout=2000)
    qtbot.waitUntil(lambda: 3 not in dock.session.state.painted, timeout=2000)
    assert sum(dock.session.state.painted.values()) == sum(painted.values()) - (painted[3] if into is None else 0)
    if by == "key":
        key(dock, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    else:
        click(dock.label.panel.undo)
    assert shown(dock) == ["background", "structure", "class 3"]
    what = f"{'removing' if into is None else 'merging'} “class 3”"
    assert dock.status.text().startswith(f"Undone: {what}")
    np.testing.assert_array_equal(paint_of(dock).data, before)
    qtbot.waitUntil(lambda: np.array_equal(on_disk(dock, "em_1.png"), closed), timeout=2000)
    qtbot.waitUntil(lambda: dock.session.state.painted == painted, timeout=2000)
    assert [info.name for info in read_project(dock.session.project).classes] == shown(dock)
    if by == "key":
        key(dock, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier)
        assert shown(dock) == ["background", "structure"]
        assert dock.status.text().startswith(f"Done again: {what}")
        np.testing.assert_array_equal(paint_of(dock).data, after)


def test_undo_waits_for_paint_that_is_still_changed_on_disk(three, click, qtbot, monkeypatch):
    dock, closed = three, on_disk(three, "em_1.png")
    relabel = ProjectWriter.relabel

    def slow(self, *given):
        time.sleep(0.5)  # many images
        return relabel(self, *given)

    monkeypatch.setattr(ProjectWriter, "relabel", slow)
    dock.label.classes.selectRow(2)
    click(dock.label.panel.remove)
    click(dock.label.panel.undo)
    qtbot.waitUntil(lambda: not dock.session.keeper._waiting, timeout=5000)
    np.testing.assert_array_equal(on_disk(dock, "em_1.png"), closed)


def test_nothing_is_saved_between_a_restore_and_its_taking_up(dock, qtbot, monkeypatch):
    keeper, order = dock.session.keeper, []
    stroke(dock)
    assert keeper.flush()
    keeper.run(lambda writer: time.sleep(0.2), lambda _: order.append("something else"))
    keeper.run(lambda writer: time.sleep(1.0), lambda _: order.append("restored"), alone=True)
    save = ProjectWriter.save
    monkeypatch.setattr(ProjectWriter, "save", lambda *given: (order.append("saved"), save(*given))[1])
    qtbot.waitUntil(lambda: "something else" in order, timeout=3000)
    stroke(dock, offset=40)
    qtbot.waitUntil(lambda: "saved" in order, timeout=6000)
    assert order == ["something else", "restored", "saved"]


def test_undo_takes_strokes_and_classes_back_in_their_order(three, click):
    dock, layer = three, paint_of(three)
    before = layer.data.copy()
    dock.label.classes.selectRow(2)
    click(dock.label.panel.remove)
    removed = layer.data.copy()
    layer.paint((50, 80), 1)
    control = Qt.KeyboardModifier.ControlModifier
    key(dock, Qt.Key.Key_Z, control)
    np.testing.assert_array_equal(layer.data, removed)
    assert len(shown(dock)) == 2
    key(dock, Qt.Key.Key_Z, control)
    np.testing.assert_array_equal(layer.data, before)
    assert len(shown(dock)) == 3
    key(dock, Qt.Key.Key_Z, control)
    assert not (layer.data == 3).any(), "the stroke before"
    assert len(shown(dock)) == 3


def test_the_brush_leaves_a_class_that_goes(three, click):
    dock, layer, control = three, paint_of(three), Qt.KeyboardModifier.ControlModifier
    dock.label.classes.selectRow(2)
    assert layer.selected_label == 3
    click(dock.label.panel.remove)
    assert layer.selected_label == dock.label.classes.selected().id == 2
    key(dock, Qt.Key.Key_Z, control)
    dock.label.classes.selectRow(2)
    key(dock, Qt.Key.Key_Z, control, Qt.KeyboardModifier.ShiftModifier)
    assert layer.selected_label == dock.label.classes.selected().id == 2, "removed again"
    click(dock.label.panel.undo)
    dock.label.classes.selectRow(2)
    dock.label.panel._fill_menu()
    dock.label.panel._menu.actions()[0].trigger()
    assert layer.selected_label == dock.label.classes.selected().id == 1, "what it was merged into"


def test_the_selected_class_stays_selected_when_others_come_and_go(three, click):
    dock, layer = three, paint_of(three)
    dock.label.classes.selectRow(0)
    layer.mode = "pan_zoom"
    click(dock.label.panel.remove)
    assert layer.selected_label == dock.label.classes.selected().id == 2
    click(dock.label.panel.undo)
    assert layer.selected_label == dock.label.classes.selected().id == 2, "though it stands a row lower"
    assert layer.mode == "pan_zoom"


def test_undo_brings_back_the_name_of_a_class_whose_label_was_painted_since(three, click, qtbot):
    dock, layer = three, paint_of(three)
    dock.label.panel._edit(2, "vesicle", "#123456")
    before = dock.session.state.classes
    dock.label.classes.selectRow(2)
    click(dock.label.panel.remove)
    layer.selected_label = 3
    layer.paint((20, 20), 3)
    qtbot.waitUntil(lambda: shown(dock) == ["background", "structure", "label 3"], timeout=3000)
    click(dock.label.panel.undo)
    assert dock.session.state.classes == before


def test_a_new_class_never_takes_the_id_of_one_that_can_come_back(three, click):
    dock = three
    dock.label.classes.selectRow(2)
    click(dock.label.panel.remove)
    click(dock.label.panel.add)
    assert dock.session.state.classes[-1].id == 4
    click(dock.label.panel.undo)
    assert [info.id for info in dock.session.state.classes] == [1, 2, 3, 4]


def test_what_is_painted_with_a_label_of_napari_s_own_gets_a_class(dock, click, wait_idle, engine, qtbot):
    layer = paint_of(dock)
    layer.selected_label = 7
    stroke(dock)
    stroke(dock, offset=60)
    assert [info.id for info in dock.session.state.classes] == [1, 2, 7]
    assert layer.get_color(7)[3] == 1
    dock.label.classes.selectRow(0)
    stroke(dock, offset=-60)
    dock.label.from_scratch.setChecked(True)
    click(dock.label.train)
    wait_idle(dock)
    assert [info.id for info in engine.classes] == [1, 7]
    dock.label.classes.selectRow(2)
    click(dock.label.panel.remove)
    qtbot.wait(3 * QUIET_MILLISECONDS)
    assert [info.id for info in dock.session.state.classes] == [1, 2]


def test_a_loaded_model_leaves_no_paint_without_a_class(dock, click, wait_idle, engine, tmp_path):
    click(dock.label.panel.add)
    dock.label.panel._edit(2, "vesicle", "#123456")
    stroke(dock)
    assert set(np.unique(paint_of(dock).data)) == {0, 3}
    path = tmp_path / "loaded.safetensors"
    classes = (ClassInfo(id=1, name="cell", color="#ff0000"), ClassInfo(id=2, name="gap", color="#00ff00"))
    engine.models[path] = ModelOnDisk(path, 1, 2, ModelCard(classes=classes))
    dock.load_model(path)
    wait_idle(dock)
    table = [(info.id, info.name) for info in dock.session.state.classes]
    assert table == [(1, "cell"), (2, "gap"), (3, "vesicle")]


def test_a_starved_class_is_marked(dock, qtbot):
    paint_of(dock).data[:30] = 1
    paint_of(dock).data[40, :40] = 2
    paint_of(dock).refresh()
    qtbot.waitUntil(lambda: set(dock.session.state.painted) == {1, 2}, timeout=1000)
    item = dock.label.classes.item(1, 2)
    assert item.text().startswith("⚠")
    assert "Few pixels for structure" in item.toolTip()
    assert not dock.label.classes.item(0, 2).text().startswith("⚠")


def test_keys_choose_class_and_brush(dock, click):
    click(dock.label.panel.add)
    layer = paint_of(dock)
    key(dock, Qt.Key.Key_1, Qt.KeyboardModifier.ControlModifier)
    assert layer.selected_label == 1
    key(dock, Qt.Key.Key_S)
    assert layer.selected_label == 2
    key(dock, Qt.Key.Key_W)
    key(dock, Qt.Key.Key_W)
    assert layer.selected_label == 3, "around the end"
    assert dock.label.classes.currentRow() == 2
    size = layer.brush_size
    key(dock, Qt.Key.Key_D)
    assert layer.brush_size > size
    assert dock.label.brush.value() == layer.brush_size
    key(dock, Qt.Key.Key_A)
    key(dock, Qt.Key.Key_A)
    assert layer.brush_size < size
    layer.brush_size = 31
    assert dock.label.brush.value() == 31, "napari's own control"
    layer.selected_label = 2
    assert dock.label.classes.currentRow() == 1


@pytest.mark.parametrize("mode", ["pan_zoom", "erase", "pick"])
def test_a_label_that_napari_s_controls_choose_leaves_the_tool(dock, mode):
    layer = paint_of(dock)
    layer.mode = mode
    layer.selected_label = 2
    assert dock.label.classes.selected().id == 2
    assert layer.mode == mode


def test_no_key_of_napari_is_taken(dock):
    from napari.layers import Labels
    from napari.utils.shortcuts import default_shortcuts

    ours = {str(key) for provider, _, _ in dock.label.shortcuts._bound for key in provider.keymap}
    theirs = {
        str(key)
        for name, keys in default_shortcuts.items()
        if not any(word in name for word in ("shape", "vertex", "add_", "points", "select_", "orient", "direct"))
        for key in keys
    }
    assert len(ours) > 10
    assert not ours & theirs
    class_keys = {str(key) for key in Labels.class_keymap}
    assert ours & class_keys <= {"Ctrl+Z", "Ctrl+Shift+Z"}, "undo is napari's own, and more"


def test_closing_lets_go_of_the_keys(dock):
    layer = paint_of(dock)
    dock.shut_down()
    assert not layer.keymap
    assert not dock._viewer.keymap


# Snapshots


def test_a_snapshot_brings_back_labels_classes_and_model(dock, engine, click, wait_idle, qtbot):
    row = dock.label.snapshots
    assert not row.take.isEnabled()
    stroke(dock)
    paint_of(dock).paint((20, 20), 2)
    dock.label.from_scratch.setChecked(True)
    engine.steps = 2
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=1000)
    click(dock.label.train)
    wait_idle(dock)
    model = dock.session.state.segmenter
    before = paint_of(dock).data.copy()
    qtbot.waitUntil(row.take.isEnabled, timeout=1000)
    click(row.take)
    qtbot.waitUntil(lambda: "Snapshot taken" in dock.status.text(), timeout=2000)
    click(dock.label.panel.add)
    paint_of(dock).data[:] = 3
    paint_of(dock).refresh()
    dock.session.state.segmenter = None
    dock.session.save_paint()
    row.fill_menu()
    [action] = row.menu.actions()
    [kept] = (dock.session.project / "snapshots").rglob("model.safetensors")
    engine.models[kept] = model
    action.trigger()
    qtbot.waitUntil(lambda: "Back at" in dock.status.text(), timeout=5000)
    np.testing.assert_array_equal(paint_of(dock).data, before)
    assert shown(dock) == ["background", "structure"]
    assert dock.session.state.segmenter is model
    stroke(dock, offset=70)
    qtbot.waitUntil(lambda: is_saved(dock), timeout=2000)
    row.fill_menu()
    assert len(row.menu.actions()) == 2, "what was there before is a snapshot, too"
    row.menu.actions()[0].trigger()
    qtbot.waitUntil(lambda: (paint_of(dock).data == 3).all(), timeout=5000)
    assert len(shown(dock)) == 3


def test_names_in_the_file_are_for_people(dock, qtbot):
    stroke(dock)
    qtbot.waitUntil(lambda: state_of(dock) == "painted", timeout=1000)
    record = json.loads((dock.session.project / "project.json").read_text())
    assert record["images"]["em_0.png"]["state"] == "painted"
    assert record["classes"][0] == ClassInfo(**record["classes"][0]).model_dump()
    assert dock.session.state.phase is Phase.IDLE
    assert keeper_module.MILLISECONDS_TO_SAVE <= 500
