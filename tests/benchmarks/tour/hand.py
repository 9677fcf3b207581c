"""A hand at the mouse: clicks in the dock and strokes on the canvas of a viewer on a screen, as Qt would deliver them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QCheckBox, QScrollArea, QWidget

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

BETWEEN_MOVES = 0.012
"""Seconds: vispy leaves out moves that come faster."""

STEP = 4.0
"""Pixels of the canvas from move to move."""


class Hand:
    """Presses what is pointed at.

    Parameters
    ----------
    viewer
        Shown on a screen, which may be a virtual one.
    longest
        Seconds after which what is waited for counts as stuck.
    """

    def __init__(self, viewer: Viewer, longest: float = 600.0) -> None:
        self._viewer = viewer
        self._longest = longest
        self._canvas = viewer.window._qt_viewer.canvas.native

    def wait(self, seconds: float) -> None:
        """Let the window live for a while."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            QApplication.processEvents()
            time.sleep(0.002)

    def wait_for(self, what: str, done: Callable[[], bool]) -> None:
        """Let the window live until something is done; ``TimeoutError`` names it if it never is."""
        end = time.perf_counter() + self._longest
        while not done():
            if time.perf_counter() > end:
                raise TimeoutError(f"waited {self._longest:.0f} s in vain for {what}")
            self.wait(0.02)

    def click(self, widget: QWidget, place: QPoint | None = None) -> None:
        """Scroll to a widget and click it; one that is not live says why in a ``RuntimeError``."""
        if not widget.isEnabled():
            raise RuntimeError(f"{widget.objectName() or type(widget).__name__} cannot be clicked: {widget.toolTip()}")
        self.show(widget)
        if place is None and isinstance(widget, QCheckBox):
            place = QPoint(10, widget.height() // 2)
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=place or widget.rect().center())
        self.wait(0.05)

    def write(self, widget: QWidget, text: str) -> None:
        """Type into a field in place of what is there, and press Enter."""
        self.show(widget)
        widget.setFocus()
        QTest.keyClick(widget, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(widget, text)
        QTest.keyClick(widget, Qt.Key.Key_Return)
        self.wait(0.05)

    def show(self, *widgets: QWidget) -> None:
        """Scroll until the widgets are seen, the first of them if not all fit."""
        self.wait(0.1)
        for widget in reversed(widgets):
            above = widget.parentWidget()
            while above is not None and not isinstance(above, QScrollArea):
                above = above.parentWidget()
            if above is not None:
                above.ensureWidgetVisible(widget, 0, 12)
        self.wait(0.1)

    def stroke(self, layer: Layer, points: Sequence[npt.ArrayLike]) -> None:
        """Draw through pixels ``(row, column)`` of a layer with the left button held."""
        corners = [self._on_canvas(layer, point) for point in points]
        places = [corners[0]]
        for start, end in itertools.pairwise(corners):
            count = max(1, round(float(np.linalg.norm(end - start)) / STEP))
            places += [start + (end - start) * part / count for part in range(1, count + 1)]
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        self._send(QEvent.Type.MouseMove, places[0], none, none)
        self._send(QEvent.Type.MouseButtonPress, places[0], left, left)
        for place in places[1:]:
            self._send(QEvent.Type.MouseMove, place, none, left)
        self._send(QEvent.Type.MouseButtonRelease, places[-1], left, none)

    def look_at(self, layer: Layer, top: float, left: float, bottom: float, right: float) -> None:
        """Fill the canvas with a part of a layer."""
        corners = np.array([layer.data_to_world(point)[-2:] for point in ((top, left), (bottom, right))])
        camera = self._camera()
        camera.center = tuple(corners.mean(0))
        size = np.array([self._canvas.height(), self._canvas.width()])
        camera.zoom = float((size / np.abs(corners[1] - corners[0])).min())
        self.wait(0.2)

    def _camera(self) -> Any:
        # napari 0.9 moved the camera into the scene.
        return getattr(self._viewer, "scene", self._viewer).camera

    def _on_canvas(self, layer: Layer, point: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return x and y of a pixel on the canvas."""
        world = np.asarray(layer.data_to_world(np.asarray(point, float)))[-2:]
        middle = np.array([self._canvas.height(), self._canvas.width()]) / 2
        camera = self._camera()
        offset: npt.NDArray[np.float64] = (world - np.asarray(camera.center)[-2:]) * camera.zoom + middle
        return offset[::-1]

    def _send(self, kind: QEvent.Type, place: npt.NDArray[np.float64], button: Qt.MouseButton, held: Qt.MouseButton) -> None:
        self.wait(BETWEEN_MOVES)
        here = QPointF(*place.tolist())
        there = QPointF(self._canvas.mapToGlobal(here.toPoint()))
        QApplication.sendEvent(self._canvas, QMouseEvent(kind, here, there, button, held, Qt.KeyboardModifier.NoModifier))
