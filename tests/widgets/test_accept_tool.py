"""Predicted regions become paint by real clicks and lines: never over paint, undone at once, and never on another image."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_affmae.card import ModelCard
from napari_affmae.data.label_array import LabelArray
from napari_affmae.data.project_folder import read_project
from napari_affmae.widgets.kinds import KIND, Kind
from napari_affmae.widgets.state import DEFAULT_CLASSES, ModelOnDisk

SHAPE = (60, 80)


def prediction() -> np.ndarray:
    """Background 1 with two squares of class 2."""
    labels = np.ones(SHAPE, np.uint8)
    labels[10:30, 10:30] = 2
    labels[35:55, 50:70] = 2
    return labels


class Result:
    def __init__(self, labels):
        self.labels = labels
        self.probabilities = np.stack([labels == 1, labels == 2]).astype(np.float32)
        self.classes = DEFAULT_CLASSES


@pytest.fixture
def dock(make_dock, make_napari_viewer, engine, qtbot, tmp_path):
    """A dock in a shown viewer with a segmented image."""
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    dock.session.settings = dock.session.settings.replace(project=str(tmp_path / "project"))
    dock.session.open_project()
    path = Path("model.safetensors")
    engine.models[path] = ModelOnDisk(path, 1, 2, ModelCard(classes=DEFAULT_CLASSES))
    dock.session.state.segmenter = engine.models[path]
    viewer.add_image(np.zeros(SHAPE), name="em", scale=(2, 2), translate=(5, 7))
    settle(dock, qtbot)
    dock.session.layers.show_segmentation(dock.session.layers.current(), Result(prediction()))
    return dock


def settle(dock, qtbot):
    """Wait until the window has its size, and show all of the image."""
    dock.label.next_section.open()
    qtbot.waitExposed(dock._viewer.window._qt_window)
    dock._viewer.window._qt_window.resize(1300, 800)
    qtbot.wait(100)
    dock._viewer.reset_view()
    qtbot.wait(50)


def canvas_of(dock):
    return dock._viewer.window._qt_viewer.canvas.native


def at(dock, row, column, layer="em"):
    """Where a pixel is on the canvas."""
    image = dock._viewer.layers[layer]
    world = np.asarray(image.data_to_world((*dock._viewer.dims.current_step[: image.ndim - 2], row, column)))[-2:]
    camera, canvas = dock._viewer.scene.camera, canvas_of(dock)
    middle = np.array([canvas.height(), canvas.width()]) / 2
    y, x = (world - np.asarray(camera.center)[-2:]) * camera.zoom + middle
    return QPoint(round(x), round(y))


def click_on(dock, row, column):
    place = at(dock, row, column)
    QTest.mouseMove(canvas_of(dock), place)
    QTest.mousePress(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseRelease(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)


def lasso(dock, qtbot, *corners):
    """Draw a line through corners with the left button held."""
    canvas = canvas_of(dock)
    places = [at(dock, *corner) for corner in corners]
    QTest.mouseMove(canvas, places[0])
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=places[0])
    for start, end in itertools.pairwise(places):
        for part in (0.25, 0.5, 0.75, 1.0):
            place = QPointF(start) + (QPointF(end) - QPointF(start)) * part
            held = Qt.MouseButton.LeftButton
            event = QMouseEvent(
                QEvent.Type.MouseMove, place, QPointF(canvas.mapToGlobal(place.toPoint())),
                Qt.MouseButton.NoButton, held, Qt.KeyboardModifier.NoModifier,
            )  # fmt: skip
            qtbot.wait(12)  # vispy leaves out moves that come faster
            QApplication.sendEvent(canvas, event)
    yield
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=places[-1])


def draw(dock, qtbot, *corners):
    for _ in lasso(dock, qtbot, *corners):
        pass


def key(dock, key, modifier=Qt.KeyboardModifier.NoModifier):
    canvas_of(dock).setFocus()
    QTest.keyClick(canvas_of(dock), key, modifier)


def paint_of(dock, name="em"):
    return dock.session.layers.paint_layer(name)


def painted(dock, qtbot, count, name="em"):
    qtbot.waitUntil(lambda: np.count_nonzero(paint_of(dock, name).data) == count, timeout=5000)


def outlines(dock):
    return [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.OUTLINE]


def test_a_click_accepts_the_region_under_it_and_one_undo_takes_it_back(dock, click, qtbot):
    click(dock.label.next.accept)
    assert dock.label.next.accept.isChecked()
    before = np.asarray(dock._viewer.scene.camera.center)
    click_on(dock, 15, 20)
    painted(dock, qtbot, 400)
    expected = np.zeros(SHAPE, np.uint8)
    expected[10:30, 10:30] = 2
    np.testing.assert_array_equal(paint_of(dock).data, expected)
    np.testing.assert_array_equal(dock._viewer.scene.camera.center, before, "the camera rests")
    assert "400 pixels of “structure”" in dock.status.text()
    qtbot.waitUntil(lambda: dock.session.state.painted == {2: 400}, timeout=2000)

    def on_disk():
        file = read_project(dock.session.project)
        return LabelArray(dock.session.project / file.labels_of("em"), "paint").read()

    qtbot.waitUntil(lambda: on_disk() is not None and np.array_equal(on_disk(), expected), timeout=2000)
    key(dock, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not paint_of(dock).data.any()
    key(dock, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(paint_of(dock).data, expected)


def test_a_line_accepts_all_classes_inside_and_spares_paint(dock, click, qtbot):
    paint = dock.session.layers.create_paint(dock.session.layers.current(), DEFAULT_CLASSES, None)
    paint.data[20:25, 5:40] = 1
    before = paint.data.copy()
    key(dock, Qt.Key.Key_Q)
    assert dock.label.next.tool.active
    strokes = []
    paint.events.paint.connect(lambda event: strokes.append(event))
    drawing = lasso(dock, qtbot, (5, 5), (5, 40), (33, 40), (33, 5))
    next(drawing)
    assert len(outlines(dock)) == 1
    assert dock._viewer.layers.selection.active is paint
    next(drawing, None)
    assert not outlines(dock)
    qtbot.waitUntil(lambda: (paint.data != before).any(), timeout=5000)
    assert len(strokes) == 1
    np.testing.assert_array_equal(paint.data[before > 0], before[before > 0])
    new = (paint.data > 0) & (before == 0)
    np.testing.assert_array_equal(paint.data[new], prediction()[new])
    assert set(np.unique(paint.data[new])) == {1, 2}
    assert new[10:20, 10:30].all()
    rows, columns = np.nonzero(new)
    assert rows.min() in (5, 6)
    assert columns.max() in (39, 40)
    key(dock, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(paint.data, before)


def test_only_what_is_visible_of_a_region_is_accepted(dock, click, qtbot):
    dock._viewer.scene.camera.zoom *= 4
    qtbot.wait(50)
    top, left, bottom, right = dock.session.layers.visible_part(dock.session.layers.current())
    assert bottom - top < 40
    click(dock.label.next.accept)
    click_on(dock, 31, 40)
    qtbot.waitUntil(lambda: paint_of(dock).data.any(), timeout=5000)
    rows, columns = np.nonzero(paint_of(dock).data)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (top, bottom - 1, left, right - 1)
    assert set(np.unique(paint_of(dock).data)) == {0, 1}


def test_with_shift_the_mouse_moves_the_view(dock, click, qtbot):
    click(dock.label.next.accept)
    canvas, camera = canvas_of(dock), dock._viewer.scene.camera
    before, start = np.asarray(camera.center), at(dock, 20, 20)
    shift, held = Qt.KeyboardModifier.ShiftModifier, Qt.MouseButton.LeftButton
    QTest.mousePress(canvas, held, shift, start)
    for step in (10, 20, 30):
        place = QPointF(start + QPoint(2 * step, step))
        event = QMouseEvent(
            QEvent.Type.MouseMove, place, QPointF(canvas.mapToGlobal(place.toPoint())), Qt.MouseButton.NoButton, held, shift
        )
        qtbot.wait(12)
        QApplication.sendEvent(canvas, event)
    QTest.mouseRelease(canvas, held, shift, start + QPoint(60, 30))
    moved = (before - np.asarray(camera.center))[-2:] * camera.zoom
    np.testing.assert_allclose(moved, (30, 60), atol=0.5)
    qtbot.wait(100)
    assert not paint_of(dock).data.any()


def test_a_class_that_is_gone_is_not_painted(dock, click, qtbot):
    dock.session.state.classes = DEFAULT_CLASSES[:1]
    click(dock.label.next.accept)
    click_on(dock, 15, 20)
    qtbot.waitUntil(lambda: "Nothing to accept" in dock.status.text(), timeout=5000)
    assert not paint_of(dock).data.any()


def test_taking_the_brush_or_another_image_lays_the_tool_down(dock, click, qtbot):
    tool, accept = dock.label.next.tool, dock.label.next.accept
    click(accept)
    click(dock.label.paint)
    assert not tool.active
    assert not accept.isChecked()
    assert paint_of(dock).mode == "paint"
    click(accept)
    assert paint_of(dock).mode == "pan_zoom"
    dock._viewer.add_image(np.zeros(SHAPE), name="other")
    assert not tool.active
    assert paint_of(dock).mouse_pan
    assert not accept.isEnabled(), "nothing is predicted there"
    key(dock, Qt.Key.Key_Q)
    assert "segment it first" in dock.status.text()
    click_on(dock, 15, 20)
    qtbot.wait(100)
    assert not paint_of(dock).data.any()


def test_what_comes_late_goes_to_the_image_it_was_asked_for(dock, engine, click, qtbot):
    """The user clicks and goes on to another image before the worker has answered."""
    late = []
    accept = type(engine).accept

    def slowly(prediction, *others):
        while not late:
            time.sleep(0.01)
        return accept(engine, prediction, *others)

    engine.accept = slowly
    click(dock.label.next.accept)
    click_on(dock, 15, 20)
    paint_of(dock).data[15, 15] = 1  # painted meanwhile
    dock._viewer.add_image(np.zeros(SHAPE), name="other")
    other = dock.session.layers.create_paint(dock.session.layers.current(), DEFAULT_CLASSES, None)
    late.append(True)
    painted(dock, qtbot, 400)
    assert paint_of(dock).data[15, 15] == 1
    assert not other.data.any()


def test_in_a_stack_the_shown_plane_is_painted_with_its_own_prediction(make_dock, make_napari_viewer, engine, click, qtbot):
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    viewer.add_image(np.zeros((3, *SHAPE)), name="em")
    settle(dock, qtbot)
    viewer.dims.set_current_step(0, 1)
    dock.session.layers.show_segmentation(dock.session.layers.current(), Result(prediction()))
    click(dock.label.next.accept)
    viewer.dims.set_current_step(0, 2)
    assert dock.label.next.tool.active
    click_on(dock, 15, 20)
    qtbot.waitUntil(lambda: "Nothing to accept" in dock.status.text(), timeout=5000)
    assert not paint_of(dock).data.any(), "this plane was not predicted"
    viewer.dims.set_current_step(0, 1)
    click_on(dock, 15, 20)
    painted(dock, qtbot, 400)
    assert (paint_of(dock).data[1, 10:30, 10:30] == 2).all()


def test_what_is_refined_is_what_is_accepted(dock, click, qtbot):
    from napari_affmae.engine.refine import Refined

    refined = prediction()
    refined[10:30, 10:30] = 1
    plane = dock.session.layers.current()
    dock.session.layers.show_refined(plane, Refined(refined, None, ()), DEFAULT_CLASSES)
    click(dock.label.next.accept)
    click_on(dock, 45, 60)
    painted(dock, qtbot, 400)
    click_on(dock, 15, 20)
    painted(dock, qtbot, SHAPE[0] * SHAPE[1])
    assert (paint_of(dock).data[10:30, 10:30] == 1).all()
