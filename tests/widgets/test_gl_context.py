"""What a removed layer had on the graphics card is freed where it was made."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtTest import QTest


@pytest.fixture
def viewer(make_dock, make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    viewer.window.add_dock_widget(dock, name="AFFMAE")
    qtbot.waitExposed(viewer.window._qt_window)
    yield viewer
    dock.shut_down()


@pytest.fixture
def foreign(qtbot):
    """A GL context of somebody else, as Qt has one to put windows together."""
    surface = QOffscreenSurface()
    surface.create()
    context = QOpenGLContext()
    assert context.create()
    yield lambda: context.makeCurrent(surface)
    context.doneCurrent()


@pytest.mark.parametrize("clear", [False, True])
def test_the_context_of_the_canvas_is_current_when_a_layer_is_freed(viewer, foreign, clear):
    image = viewer.add_image(np.random.default_rng(0).random((32, 48)))
    paint = viewer.add_labels(np.zeros((32, 48), np.uint8))
    paint.mode = "paint"
    QTest.qWait(300)
    [canvas] = viewer.window._qt_window.findChildren(QOpenGLWidget)
    removed = []
    # napari frees layers when it hears this, too.
    viewer.layers.events.removed.connect(lambda event: removed.append(QOpenGLContext.currentContext() == canvas.context()))
    assert foreign()
    if clear:
        viewer.layers.clear()
    else:
        viewer.layers.remove(paint)
        assert foreign()
        viewer.layers.remove(image)
    assert removed == [True, True]
    QTest.qWait(100)


@pytest.mark.parametrize("how", ["shut down", "deleted"])
def test_a_dock_that_is_closed_leaves_contexts_alone(make_dock, make_napari_viewer, foreign, qtbot, how):
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    viewer.window.add_dock_widget(dock, name="AFFMAE")
    qtbot.waitExposed(viewer.window._qt_window)
    if how == "shut down":
        dock.shut_down()
    else:
        with qtbot.waitSignal(dock.destroyed):
            dock.deleteLater()
    image = viewer.add_image(np.zeros((32, 48)))
    QTest.qWait(100)
    assert foreign()
    theirs = QOpenGLContext.currentContext()
    still = []
    viewer.layers.events.removed.connect(lambda event: still.append(QOpenGLContext.currentContext() == theirs))
    viewer.layers.remove(image)
    assert still == [True]
