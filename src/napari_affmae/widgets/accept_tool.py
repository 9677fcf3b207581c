"""Turns predicted regions into paint: a click takes the region under the cursor, a line drawn around several takes those."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from psygnal import Signal

from .kinds import GROUP
from .state import count, thousands

if TYPE_CHECKING:
    from napari.layers import Labels

    from .plane import Plane
    from .session import Session

MOST_PIXELS = 1 << 24
"""Pixels that are looked at for one click or outline."""

CLICK = 4.0
"""A press that moves no further than so many pixels of the canvas is a click."""


class AcceptTool:
    """The tool in the user's hand, on the paint of the current image.

    A click takes what is connected and visible; what lies outside of the canvas nobody has looked at.

    Signals
    -------
    changed()
        It was taken up or laid down.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layer: Labels | None = None
        session.viewer.layers.selection.events.active.connect(self._on_selected)
        session.layers.paint_removed.connect(self._on_removed)
        session.closing.connect(self._close)

    @property
    def active(self) -> bool:
        """Whether it is in the user's hand."""
        return self._layer is not None

    def toggle(self) -> None:
        """Take it up or lay it down."""
        if self.active:
            self.stop()
        else:
            self.start()

    def start(self) -> None:
        """Take it up on the paint of the current image."""
        session = self._session
        plane = session.layers.current()
        if plane is None or self.active or not session.restorer.restore(plane):
            return
        layer = session.layers.paint_on(plane, session.state.classes)
        session.viewer.layers.selection.active = layer
        layer.mode = "pan_zoom"
        layer.mouse_pan = False
        layer.cursor = "cross"
        layer.mouse_drag_callbacks.append(self._drag)
        layer.events.mode.connect(self._on_mode)
        self._layer = layer
        self.changed.emit()
        session.say("Click a region, or draw a line around several, to turn them into paint. Shift moves the view, Q ends it.")

    def stop(self) -> None:
        """Lay it down."""
        if self._layer is not None:
            self._end()
            self.changed.emit()

    def _end(self) -> None:
        layer, self._layer = self._layer, None
        if layer is None:
            return
        layer.events.mode.disconnect(self._on_mode)
        layer.mouse_drag_callbacks.remove(self._drag)
        if layer.mode == "pan_zoom":
            layer.mouse_pan = True
            layer.cursor = "standard"

    def _close(self, timeout: float) -> None:
        self._end()
        self._session.viewer.layers.selection.events.active.disconnect(self._on_selected)

    def _on_selected(self) -> None:
        if (
            self._layer is not None
            and not self._session.layers.is_adding
            and self._session.viewer.layers.selection.active is not self._layer
        ):
            self.stop()

    def _on_mode(self) -> None:
        """Whoever takes the brush lays this down."""
        self.stop()

    def _on_removed(self, layer: Labels) -> None:
        if layer is self._layer:
            self.stop()

    # The mouse

    def _drag(self, layer: Labels, event: Any) -> Iterator[None]:
        """Follow the mouse from the press to the release."""
        plane = self._session.layers.current()
        if event.button != 1 or plane is None or plane.group != layer.metadata[GROUP]:
            return
        if not self._session.layers.is_flat(plane):
            self._session.say("Regions can be accepted in the flat view of rows and columns only: switch napari back to 2D.")
            return
        if "Shift" in event.modifiers:
            yield from self._move_view(event)
            return
        pressed = np.array(event.pos)
        outline = [self._place(layer, event)]
        moved = False
        yield
        while event.type == "mouse_move":
            moved = moved or bool(np.abs(np.array(event.pos) - pressed).max() > CLICK)
            outline.append(self._place(layer, event))
            if moved:
                self._session.layers.show_outline(plane, [*outline, outline[0]])
            yield
        self._session.layers.show_outline(plane, [])
        # The brush may have been taken, or the image changed, with the button down.
        if self._layer is layer and self._session.layers.current() == plane:
            self._accept(plane, outline if moved else outline[:1])

    def _move_view(self, event: Any) -> Iterator[None]:
        """Move the view with the mouse, which otherwise draws."""
        right, down = event.pos
        yield
        while event.type == "mouse_move":
            self._session.layers.move_view(event.pos[1] - down, event.pos[0] - right)
            right, down = event.pos
            yield

    @staticmethod
    def _place(layer: Labels, event: Any) -> tuple[float, float]:
        row, column = layer.world_to_data(event.position)[-2:]
        return float(row), float(column)

    # From prediction to paint

    def _accept(self, plane: Plane, outline: list[tuple[float, float]]) -> None:
        session = self._session
        prediction = session.layers.shown_prediction(plane)
        paint = session.layers.paint_layer(plane.group)
        if prediction is None or paint is None:
            session.say("There is no visible prediction of this image to accept: segment it, or show its layer.")
            return
        top, left, bottom, right = self._window(plane, outline)
        if bottom <= top or right <= left:
            session.say("That is beside the image.")
            return
        if (bottom - top) * (right - left) > MOST_PIXELS:
            session.say(f"Zoom in first: at most {thousands(MOST_PIXELS)} pixels are looked at for one region.")
            return
        window = slice(top, bottom), slice(left, right)
        # An array in memory may change before the worker reads it, one on disk is read there.
        ids = np.array(prediction[window]) if isinstance(prediction, np.ndarray) else _Later(prediction, window)
        painted = np.array(paint.data[plane.index][window])
        classes = {info.id for info in session.state.classes}
        there = [(row - top, column - left) for row, column in outline]
        worker = create_worker(session.engine.accept, ids, painted, there, classes, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(lambda found: self._paint(plane, found, top, left))
        worker.errored.connect(session.fail)
        worker.start()

    def _window(self, plane: Plane, outline: Sequence[tuple[float, float]]) -> tuple[int, int, int, int]:
        """Return first and last rows and columns to look at: what an outline spans, or what of the canvas a click is in."""
        height, width = plane.shape
        if len(outline) > 1:
            rows, columns = zip(*outline, strict=True)
            first = max(math.floor(min(rows)), 0), max(math.floor(min(columns)), 0)
            return (*first, min(math.ceil(max(rows)) + 1, height), min(math.ceil(max(columns)) + 1, width))
        top, left, bottom, right = self._session.layers.visible_part(plane)
        row, column = (round(at) for at in outline[0])
        return (top, left, bottom, right) if top <= row < bottom and left <= column < right else (0, 0, 0, 0)

    def _paint(self, plane: Plane, found: Any, top: int, left: int) -> None:
        session = self._session
        if session.closed or plane.layer not in session.layers.images() or session.layers.paint_layer(plane.group) is None:
            return
        ids = {info.id: info.name for info in session.state.classes}
        known = np.where(np.isin(found, list(ids)), found, 0)
        painted = session.layers.paint_where_empty(plane, known, top, left)
        if painted:
            *names, last = [f"“{ids[one]}”" for one in np.unique(known[known > 0]).tolist()]
            of = f"{', '.join(names)} and {last}" if names else last
            session.say(f"Accepted {count(painted, 'pixel')} of {of} as paint. Ctrl+Z takes it back.")
        else:
            session.say("Nothing to accept there: it is painted already, or nothing with a class of the table is predicted.")


class _Later:
    """Part of an array on disk that the worker reads."""

    def __init__(self, array: Any, window: tuple[slice, slice]) -> None:
        self._array = array
        self._window = window

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self._array[self._window], dtype)
