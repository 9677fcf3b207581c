"""How unsure the prediction of an image is, as a layer that glows over it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.colormaps import Colormap

from .overlays import Kind, Overlays
from .placement import Placement
from .plane import Plane, spatial_shape

CERTAIN = np.float16(2**-14)
"""Stands for 0 in the layer, where 0 itself means that nothing was predicted."""

STEP = "napari_affmae_step"
"""Key in ``layer.metadata``: the side in pixels of the squares that its values are means of."""

_HUE = (1.0, 0.0, 0.85)
_OPAQUE = 0.9


class UncertaintyLayers(Overlays):
    """Overlays of uncertainty: values of all planes of an image, written in place as they are predicted."""

    def show_uncertainty(self, plane: Plane, parts: Iterable[tuple[int, int, npt.NDArray[Any]]]) -> Image | None:
        """Write parts of a plane, each a first row, a first column and values ``[h, w]``, 0 to 1; and draw once.

        Returns a layer that had to be made for it. It is hidden until it is revealed: making and drawing it can be two things.
        """
        shape = spatial_shape(plane.layer)
        layer = self._find(Kind.UNCERTAINTY, plane.group)
        made = None
        if layer is None or layer.data.shape != shape:
            self._replace(layer)
            # Pages that nobody writes to take no memory.
            placement = Placement.of_layer(plane.layer, len(shape))
            made = layer = self._add_uncertainty(plane, np.zeros(shape, np.float16), placement, 1)
        for top, left, values in parts:
            height, width = values.shape
            layer.data[plane.index][top : top + height, left : left + width] = np.maximum(values, CERTAIN)
        layer.refresh(extent=False)
        return made

    def show_mean_uncertainty(self, plane: Plane, means: npt.NDArray[Any], step: int) -> None:
        """Show means over squares of ``step`` pixels of a plane that is too large for a value in every pixel."""
        layer = self._find(Kind.UNCERTAINTY, plane.group)
        self._replace(layer)
        whole = plane.placement()
        placement = replace(
            whole,
            scale=tuple(scale * step for scale in whole.scale),
            translate=tuple(start + scale * (step - 1) / 2 for start, scale in zip(whole.translate, whole.scale, strict=True)),
        )
        self.reveal(plane, self._add_uncertainty(plane, np.maximum(means, CERTAIN), placement, step))

    def want_uncertainty(self, wanted: bool) -> None:
        """Show or hide it, now on the images that are seen and later on the others."""
        self._comes_back.discard(Kind.UNCERTAINTY)
        if wanted:
            self._comes_back.add(Kind.UNCERTAINTY)
        for image in self.images():
            layer = self._find(Kind.UNCERTAINTY, Plane(image, ()).group)
            if layer is not None and image.visible:
                layer.visible = wanted

    def has_uncertainty(self) -> bool:
        """Whether the uncertainty of any image is known."""
        return bool(self._of_kind(Kind.UNCERTAINTY))

    def uncertain_planes(self) -> list[tuple[Plane, npt.NDArray[Any], int]]:
        """Return all planes of images with known uncertainty, with the values and the side of what each is the mean of.

        The values are those of the layer and not a copy, 0 where nothing was predicted.
        """
        found = []
        for image in self.images():
            layer = self._find(Kind.UNCERTAINTY, Plane(image, ()).group)
            if layer is None:
                continue
            step = layer.metadata[STEP]
            if layer.data.ndim == 2:
                found.append((self._plane(image) if step > 1 else Plane(image, ()), layer.data, step))
            else:
                found += [(Plane(image, index), layer.data[index], 1) for index in np.ndindex(*layer.data.shape[:-2])]
        return found

    def _add_uncertainty(self, plane: Plane, data: npt.NDArray[Any], placement: Placement, step: int) -> Image:
        layer = Image(data, colormap=_glow(), contrast_limits=(0, 1), blending="translucent", visible=False)
        self._add(layer, Kind.UNCERTAINTY, "", plane.group, placement)
        layer.metadata = {**layer.metadata, STEP: step}
        return layer

    def _replace(self, layer: Image | None) -> None:
        if layer is not None:
            self._viewer.layers.remove(layer)


def _glow() -> Colormap:
    """Return one hue that neither grey nor the colours of the first classes have, over what is below it.

    Only its opacity grows, and steadily: more doubt never looks like less. Faint doubt, which is everywhere, hardly tints.
    """
    opacity = _OPAQUE * np.linspace(0, 1, 64) ** 1.5
    return Colormap(np.column_stack([np.tile(_HUE, (64, 1)), opacity]), name="uncertainty")
