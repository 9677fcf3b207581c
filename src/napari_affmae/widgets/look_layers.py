"""Looks inside the network as layers: tokens, merge maps, density and features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Points

from .kinds import Kind
from .overlays import Overlays
from .plane import Plane

if TYPE_CHECKING:
    from ..engine.inspect import StageInspection


class LookLayers(Overlays):
    """Overlays that show one look at a time, without what would cover it."""

    def show_tokens(self, plane: Plane, stage: StageInspection) -> None:
        """Show where the tokens of a stage sit, each as large as the area it stands for."""
        # Token i owns the pixels of value i + 1. Floating point, or napari would take a few distinct areas for categories.
        areas = np.bincount(stage.merge_map.ravel(), minlength=len(stage.positions_rc) + 1)[1:].astype(np.float64)
        sizes = np.maximum(np.sqrt(areas) * 0.75, 2.0)
        layer = self._find(Kind.TOKENS, plane.group, stage.name)
        if layer is None:
            layer = Points(stage.positions_rc, size=sizes, border_width=0, opacity=0.6, features=_features(areas))
            layer.face_colormap = "cool"  # no end of it is dark: they lie on grey images
            layer.face_color = "log area"
            self._add(layer, Kind.TOKENS, stage.name, plane.group, plane.placement())
        else:
            layer.data = stage.positions_rc
            layer.features = _features(areas)
            layer.size = sizes
            layer.refresh_colors()
            plane.placement().apply(layer)
        self._show_only(layer)

    def show_merge_map(self, plane: Plane, stage: StageInspection) -> None:
        """Show which surviving token of a stage owns each pixel."""
        layer = self._find(Kind.MERGE_MAP, plane.group, stage.name)
        if layer is None:
            layer = Labels(stage.merge_map, opacity=0.5)
            self._add(layer, Kind.MERGE_MAP, stage.name, plane.group, plane.placement())
        else:
            layer.data = stage.merge_map
            plane.placement().apply(layer)
        self._show_only(layer)

    def show_density(self, plane: Plane, stage: StageInspection) -> None:
        """Show how densely the tokens of a stage lie, the image still seen below, whether that is dark or bright."""
        look = {"blending": "translucent", "opacity": 0.6}
        self._show_only(self._show_image(plane, Kind.DENSITY, stage.name, stage.density, "inferno", **look))

    def show_pca(self, plane: Plane, view: str, features: npt.NDArray[np.float32]) -> None:
        """Show the three main components of features ``[H, W, 3]`` as colours."""
        layer = self._find(Kind.PCA, plane.group, view)
        if layer is None:
            layer = Image(features, rgb=True)
            self._add(layer, Kind.PCA, view, plane.group, plane.placement())
        else:
            layer.data = features
            plane.placement().apply(layer)
        self._show_only(layer)


def _features(areas: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return what is known of tokens. They are coloured by the logarithm: one large token would leave all others alike."""
    return {"area": areas, "log area": np.log2(np.maximum(areas, 1))}
