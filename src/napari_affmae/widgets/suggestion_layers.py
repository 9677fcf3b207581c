"""Suggested places as rings on their images, and the camera that goes there; outlines that are being drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Points, Shapes

from .kinds import Kind
from .overlays import Overlays
from .placement import Placement
from .plane import Plane, spatial_shape

VIEW = 8
"""How many places fit side by side into the view of one."""

_RING, _CURRENT, _CASING = "#ffd84d", "#ffffff", "#16181c"
"""Bright lines in dark casings, and bright numbers on dark badges, are seen on dark and on light images and canvases."""

_LINE = 0.08
"""Width of a ring's line, of the side of a place; its casing is seen on both sides of it."""

_MARKS = 3
"""Points of a place: the casing, the ring, the badge; those of all places in this order."""

_BADGE = 0.3
"""Size of the badge with the number; it stands above the ring, so that nothing in that is covered."""


class SuggestionLayers(Overlays):
    """Overlays that lead the user to places."""

    def show_suggestions(
        self, plane: Plane, places: Sequence[tuple[int, tuple[int, ...], int, int]], side: int, current: int | None
    ) -> None:
        """Show rings at places of an image: their number, plane, row and column; the current one stands out.

        Without places the layer goes.
        """
        layer = self._find(Kind.SUGGESTIONS, plane.group)
        count = len(places)
        if layer is not None and (not places or len(layer.data) != _MARKS * count):
            self._viewer.layers.remove(layer)
            layer = None
        if not places:
            return
        rings = np.array([(*index, row, column) for _, index, row, column in places], float)
        badges = rings.copy()
        badges[:, -2] -= (1 + _BADGE) / 2 * side
        at = np.concatenate([rings, rings, badges])
        colors = [_CURRENT if number == current else _RING for number, *_ in places]
        borders = [_CASING] * count + colors + [_CASING] * count
        if layer is None:
            placement = Placement.of_layer(plane.layer, at.shape[1])
            layer = Points(
                at,
                # Of Points that get their units later, napari 0.9 looks up slices in metres.
                **placement.as_keywords(),
                size=np.repeat([(1 + _LINE) * side, side, _BADGE * side], count),
                face_color=["transparent"] * 2 * count + [_CASING] * count,
                border_color=borders,
                border_width=np.repeat([2 * _LINE, _LINE, 0], count),
                features={"number": [""] * 2 * count + [str(number + 1) for number, *_ in places]},
                text={"string": "{number}", "size": 9, "color": _CURRENT},
                canvas_size_limits=(20, 10_000),
            )
            self._add(layer, Kind.SUGGESTIONS, "", plane.group, placement)
        else:
            layer.data = at
            layer.border_color = borders
        layer.visible = plane.layer.visible

    def remove_suggestions(self) -> None:
        """Remove the rings of all images."""
        for layer in self._of_kind(Kind.SUGGESTIONS):
            self._viewer.layers.remove(layer)

    def go_to(self, plane: Plane, row: int, column: int, side: int) -> None:
        """Let the camera look at a place of an image, so close that :data:`VIEW` such places fit into the view."""
        whole = Placement.of_layer(plane.layer, len(spatial_shape(plane.layer)))
        first = self._viewer.dims.ndim - len(whole.scale)
        for axis, at in enumerate(plane.index):
            self._viewer.dims.set_point(first + axis, whole.translate[axis] + at * whole.scale[axis])
        centre = [
            start + at * step for start, step, at in zip(whole.translate[-2:], whole.scale[-2:], (row, column), strict=True)
        ]
        # napari 0.9 moved camera and canvas.
        viewer: Any = self._viewer
        camera = _camera(viewer)
        canvas = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
        camera.center = (*camera.center[:-2], *centre)
        camera.zoom = min(canvas) / (VIEW * side * max(abs(scale) for scale in whole.scale[-2:]))

    def move_view(self, down: float, right: float) -> None:
        """Move what the canvas shows by so many pixels of the canvas."""
        camera = _camera(self._viewer)
        *rest, row, column = camera.center
        camera.center = (*rest, row - down / camera.zoom, column - right / camera.zoom)

    def show_outline(self, plane: Plane, outline: Sequence[tuple[float, float]]) -> None:
        """Show an outline of rows and columns that is being drawn; one of fewer than two points goes."""
        layer = self._find(Kind.OUTLINE, plane.group)
        if len(outline) < 2:
            if layer is not None:
                self._viewer.layers.remove(layer)
            return
        path = np.array(outline, float)
        if layer is None:
            layer = Shapes(
                [path], shape_type="path", edge_color=_RING, face_color="transparent", edge_width=_width(self._viewer)
            )
            self._add(layer, Kind.OUTLINE, "", plane.group, plane.placement())
        else:
            layer.data = [path]


def _width(viewer: Any) -> float:
    """Return what is about three pixels of the canvas."""
    return 3.0 / float(_camera(viewer).zoom)


def _camera(viewer: Any) -> Any:
    return getattr(viewer, "scene", viewer).camera
