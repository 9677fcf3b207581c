"""The probability of each class as layers over an image, one of them seen at first."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.colormaps import Colormap

from ..card import ClassInfo
from .kinds import GROUP, Kind
from .overlays import Overlays
from .plane import Plane

_OPACITY = 0.5
_LONGEST = 16
"""Characters of a class in the name of a layer: napari's list of layers is as wide as the longest name."""


class ProbabilityLayers(Overlays):
    """Overlays of one plane of an image, a layer a class."""

    def show_probabilities(self, plane: Plane, classes: Sequence[ClassInfo], probabilities: npt.NDArray[np.float32]) -> None:
        """Show how probable ``[K, H, W]`` each class is; at first only the first one that is no background is seen."""
        names = [_short(info.name) for info in classes]
        there = [layer for layer in self._of_group(plane.group) if layer in self._of_kind(Kind.PROBABILITY)]
        if [layer.metadata["detail"] for layer in there] != names:
            for layer in there:
                self._viewer.layers.remove(layer)
            there = []
        first = next((place for place, info in enumerate(classes) if info.name.lower() != "background"), 0)
        for place, (info, probability) in enumerate(zip(classes, probabilities, strict=True)):
            if there:
                there[place].data = probability
                there[place].colormap = _ramp(info)
                plane.placement().apply(there[place])
                continue
            layer = Image(
                probability, colormap=_ramp(info), contrast_limits=(0, 1), blending="translucent", opacity=_OPACITY,
                visible=place == first,
            )  # fmt: skip
            self._add(layer, Kind.PROBABILITY, names[place], plane.group, plane.placement())

    def remove_probabilities(self, but: Collection[str] = ()) -> None:
        """Remove these layers from all images but some, given by what they go by."""
        for layer in self._of_kind(Kind.PROBABILITY):
            if layer.metadata[GROUP] not in but:
                self._viewer.layers.remove(layer)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1].rstrip()}…"


def _ramp(info: ClassInfo) -> Colormap:
    return Colormap([[0, 0, 0, 1], info.color], name=f"{info.name} {info.color}")
