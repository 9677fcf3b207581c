"""Where a layer lies in the world: scale, translate, units and axis labels, and the pixel size that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..card import PixelSize
from ..data.pixel_size import pixel_size

if TYPE_CHECKING:
    from napari.layers import Layer

PLACED = ("scale", "translate", "units", "axis_labels")
"""napari's events of a change of placement."""


@dataclass(frozen=True)
class Placement:
    """The part of a layer's transform that its overlays share, one value per axis."""

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    @classmethod
    def of_layer(cls, layer: Layer, ndim: int) -> Placement:
        """Return the placement of the last ``ndim`` axes of a layer."""
        return cls(
            tuple(float(value) for value in layer.scale[-ndim:]),
            tuple(float(value) for value in layer.translate[-ndim:]),
            tuple(str(unit) for unit in layer.units[-ndim:]),
            tuple(layer.axis_labels[-ndim:]),
        )

    @classmethod
    def of_pixels(cls, size: PixelSize | None, translate: tuple[float, float] = (0.0, 0.0)) -> Placement:
        """Return the placement of a plane of pixels of this size, rows then columns."""
        if size is None:
            return cls((1.0, 1.0), translate, ("pixel", "pixel"), ("y", "x"))
        return cls((size.y, size.x), translate, (size.unit, size.unit), ("y", "x"))

    def shifted(self, *pixels: int) -> Placement:
        """Return the placement of a part that starts so many pixels further along each axis."""
        steps = zip(self.translate, self.scale, pixels, strict=True)
        return replace(self, translate=tuple(start + step * count for start, step, count in steps))

    def following(self, before: Placement, now: Placement) -> Placement:
        """Return where something that lay here goes when the layer below it moves from one placement to another.

        Both have as many axes as this one, or more; the last ones are shared.
        """
        axes = len(self.scale)
        ratios = [new / old for new, old in zip(now.scale[-axes:], before.scale[-axes:], strict=True)]
        ways = zip(self.translate, before.translate[-axes:], now.translate[-axes:], ratios, strict=True)
        return Placement(
            tuple(side * ratio for side, ratio in zip(self.scale, ratios, strict=True)),
            tuple(start + (here - old) * ratio for here, old, start, ratio in ways),
            now.units[-axes:],
            now.axis_labels[-axes:],
        )

    def as_keywords(self) -> dict[str, Any]:
        """Return the placement as layer metadata, for data that napari makes layers of."""
        return {"scale": self.scale, "translate": self.translate, "units": self.units, "axis_labels": self.axis_labels}

    def apply(self, layer: Layer) -> None:
        """Give a layer of as many axes this placement, touching only what differs."""
        if not np.array_equal(layer.scale, self.scale):
            layer.scale = self.scale
        if not np.array_equal(layer.translate, self.translate):
            layer.translate = self.translate
        if tuple(str(unit) for unit in layer.units) != self.units:
            layer.units = self.units
        if tuple(layer.axis_labels) != self.axis_labels:
            layer.axis_labels = self.axis_labels


def pixel_size_of(layer: Layer) -> PixelSize | None:
    """Return the pixel size that a layer's scale and units state, or None if its unit is the pixel."""
    scale: Any = layer.scale
    y, x = (pixel_size(side, side, str(unit)) for side, unit in zip(np.abs(scale[-2:]), layer.units[-2:], strict=True))
    return None if y is None or x is None or y.unit != x.unit else PixelSize(y=y.y, x=x.x, unit=y.unit)
