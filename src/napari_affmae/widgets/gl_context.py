"""Where a layer that is removed frees what it had on the graphics card.

napari frees it at once, in whatever GL context is current. Outside of drawing that can be the one in which Qt puts windows
together: once a message has popped up over the canvas, say. The canvas' own context then still points to buffers that are gone,
and with Mesa's drivers the next drawing ends the process (napari 0.9.2, vispy 0.17, llvmpipe; after painting with the brush).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow, QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer


class CanvasContext:
    """Makes the canvas' own context the current one before a layer is removed, whoever removes it.

    Parameters
    ----------
    viewer
        Whose layers.
    dock
        A widget in the viewer's window.
    """

    def __init__(self, viewer: Viewer, dock: QWidget) -> None:
        self._viewer = viewer
        self._dock = dock
        viewer.layers.events.removing.connect(self._make_current)

    def disconnect(self) -> None:
        """Leave the viewer alone."""
        self._viewer.layers.events.removing.disconnect(self._make_current)

    def _make_current(self) -> None:
        window = main_window_of(self._dock)
        for canvas in window.findChildren(QOpenGLWidget) if window is not None else ():
            canvas.makeCurrent()


def main_window_of(widget: QWidget) -> QMainWindow | None:
    """Return the main window that a widget is in, docked or floating; None if it is in none."""
    ancestor = widget.parentWidget()
    while ancestor is not None and not isinstance(ancestor, QMainWindow):
        ancestor = ancestor.parentWidget()
    return ancestor
