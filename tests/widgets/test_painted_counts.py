"""The counts of step 3 follow the paint, whoever changes it: strokes, undo and redo with real mouse and keys, and programs."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

SHAPE = (64, 96)


@pytest.fixture
def dock(make_dock, make_napari_viewer, click, qtbot):
    """A dock in a shown viewer, the brush of the first class in hand."""
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    viewer.add_image(np.random.default_rng(0).random(SHAPE), name="em")
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.reset_view()
    click(dock.label.paint)
    return dock


@pytest.fixture
def layer(dock):
    return dock.session.layers.paint_layer("em")


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


def press(dock, *modifiers):
    """Press Z with Ctrl and perhaps Shift on the canvas."""
    held = Qt.KeyboardModifier.ControlModifier
    for modifier in modifiers:
        held |= modifier
    canvas_of(dock).setFocus()
    QTest.keyClick(canvas_of(dock), Qt.Key.Key_Z, held)


def shown(dock, row=0):
    """Pixels that the class table shows for a class."""
    text = "".join(character for character in dock.label.classes.item(row, 2).text() if character.isdigit())
    return int(text or 0)


def true(layer, class_id=1):
    return int(np.count_nonzero(layer.data == class_id))


def follows(qtbot, dock, layer):
    qtbot.waitUntil(lambda: shown(dock) == true(layer), timeout=2000)
    assert dock.session.state.painted.get(1, 0) == true(layer)


def test_counts_follow_undo_and_redo(dock, layer, qtbot):
    stroke(dock)
    first = true(layer)
    assert first > 0, "the mouse reached the layer"
    follows(qtbot, dock, layer)
    stroke(dock, offset=80)
    second = true(layer)
    assert second > first
    follows(qtbot, dock, layer)
    press(dock)
    assert true(layer) == first, "the key reached the layer"
    follows(qtbot, dock, layer)
    press(dock)
    assert true(layer) == 0
    follows(qtbot, dock, layer)
    press(dock, Qt.KeyboardModifier.ShiftModifier)
    assert true(layer) == first
    follows(qtbot, dock, layer)


def paint_once(layer):
    layer.paint((30, 40), 1)


def fill(layer):
    layer.fill((30, 40), 1)


def set_items(layer):
    layer.data_setitem((np.array([3, 4]), np.array([5, 6])), 1)


def write_and_refresh(layer):
    layer.data[10:20, 10:20] = 1
    layer.refresh()


def replace(layer):
    layer.data = np.pad(np.ones((5, 5), np.uint8), ((0, SHAPE[0] - 5), (0, SHAPE[1] - 5)))


@pytest.mark.parametrize("change", [paint_once, fill, set_items, write_and_refresh, replace])
def test_counts_follow_programs(dock, layer, qtbot, change):
    change(layer)
    assert true(layer) > 0
    follows(qtbot, dock, layer)


def test_what_was_undone_out_of_sight_is_not_trained_on(dock, layer, engine, click, wait_idle, qtbot):
    for class_id in (1, 2, 3):
        if class_id == 3:
            click(dock.label.panel.add)
        layer.paint((15 * class_id, 40), class_id)
    qtbot.waitUntil(lambda: len(dock.session.state.painted) == 3, timeout=2000)
    layer.visible = False
    layer.undo()
    dock.label.from_scratch.setChecked(True)
    engine.steps = 2
    click(dock.label.train)
    wait_idle(dock)
    assert [info.id for info in engine.classes] == [1, 2]


def test_paint_is_counted_once_it_is_quiet(dock, layer, qtbot, monkeypatch):
    counted = []
    count = dock.session.layers.painted_pixels
    monkeypatch.setattr(dock.session.layers, "painted_pixels", lambda: counted.append(1) or count())
    for _ in range(50):
        layer.refresh()
    assert not counted
    qtbot.wait(300)
    assert len(counted) == 1


def test_a_closed_dock_counts_no_more(dock, layer, qtbot, monkeypatch):
    layer.refresh()
    monkeypatch.setattr(dock.session.layers, "painted_pixels", lambda: pytest.fail("counted"))
    dock.shut_down()
    layer.refresh()
    qtbot.wait(300)
