"""How unsure the prediction of an image is, as a layer that glows over it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from napari.utils.colormaps import Colormap

from .kinds import Kind
from .overlays import Overlays
from .placement import Placement
from .plane import UNSURE, Plane, spatial_shape

CERTAIN = np.float16(2**-14)
"""Stands for 0 in the layer, where 0 itself means that nothing was predicted."""

_HUE = (1.0, 0.0, 0.85)
_OPAQUE = 0.9


class UncertaintyLayers(Overlays):
    """Uncertainty of all planes of an image, which the image keeps, and the overlay that shows it once it is asked for.

    napari takes almost 0.1 s of the window's thread for a layer, which live mode needs for none that nobody looks at.
    """

    def show_uncertainty(self, plane: Plane, parts: Iterable[tuple[int, int, npt.NDArray[Any]]]) -> Image | None:
        """Write parts of a plane, each a first row, a first column and values ``[h, w]``, 0 to 1; and draw once.

        Returns a layer that had to be made for it. It is hidden until it is revealed: making and drawing it can be two things.
        """
        shape = spatial_shape(plane.layer)
        values, step = plane.layer.metadata.get(UNSURE, (None, 0))
        is_new = values is None or step != 1 or values.shape != shape
        if is_new:
            # Pages that nobody writes to take no memory.
            values = np.zeros(shape, np.float16)
            self._keep(plane, values, 1)
        for top, left, part in parts:
            height, width = part.shape
            values[plane.index][top : top + height, left : left + width] = np.maximum(part, CERTAIN)
        layer = self._find(Kind.UNCERTAINTY, plane.group)
        if layer is not None:
            layer.refresh(extent=False)
        made = self._make_wanted(plane)
        if is_new:
            self.uncertainty_known.emit()
        return made

    def show_mean_uncertainty(self, plane: Plane, means: npt.NDArray[Any], step: int) -> None:
        """Show means over squares of ``step`` pixels of a plane that is too large for a value in every pixel."""
        self._keep(plane, np.maximum(means, CERTAIN), step)
        made = self._make_wanted(plane)
        if made is not None:
            self.reveal(plane, made)
        self.uncertainty_known.emit()

    def want_uncertainty(self, wanted: bool) -> None:
        """Show or hide it, now on the images that are seen and later on the others."""
        self._comes_back.discard(Kind.UNCERTAINTY)
        if wanted:
            self._comes_back.add(Kind.UNCERTAINTY)
        for plane in self.visible_planes():
            self._make_wanted(plane)
            layer = self._find(Kind.UNCERTAINTY, plane.group)
            if layer is not None:
                layer.visible = wanted

    def has_uncertainty(self) -> bool:
        """Whether the uncertainty of any image is known."""
        return any(UNSURE in image.metadata for image in self.images())

    def uncertain_planes(self) -> list[tuple[Plane, npt.NDArray[Any], int]]:
        """Return all planes of images with known uncertainty, with the values and the side of what each is the mean of.

        The values are those that are written to and not a copy, 0 where nothing was predicted.
        """
        found = []
        for image in self.images():
            if UNSURE not in image.metadata:
                continue
            values, step = image.metadata[UNSURE]
            if values.ndim == 2:
                found.append((self._plane(image) if step > 1 else Plane(image, ()), values, step))
            else:
                found += [(Plane(image, index), values[index], 1) for index in np.ndindex(*values.shape[:-2])]
        return found

    def _keep(self, plane: Plane, values: npt.NDArray[Any], step: int) -> None:
        """Let an image have other values; a layer that shows the ones before goes."""
        plane.layer.metadata[UNSURE] = values, step
        layer = self._find(Kind.UNCERTAINTY, plane.group)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _make_wanted(self, plane: Plane) -> Image | None:
        """Make the layer of an image, hidden, if it is asked for and can be made and is not there yet; return it if so."""
        is_wanted = Kind.UNCERTAINTY in self._comes_back and UNSURE in plane.layer.metadata
        if not is_wanted or self._find(Kind.UNCERTAINTY, plane.group) is not None:
            return None
        values, step = plane.layer.metadata[UNSURE]
        layer = Image(values, colormap=_glow(), contrast_limits=(0, 1), blending="translucent", visible=False)
        self._add(layer, Kind.UNCERTAINTY, "", plane.group, _placement(plane, values.ndim, step))
        return layer

    def _bring_back(self, group: str) -> None:
        for image in self.images():
            if Plane(image, ()).group == group:
                self._make_wanted(self._plane(image))
        super()._bring_back(group)


def _placement(plane: Plane, ndim: int, step: int) -> Placement:
    if step == 1:
        return Placement.of_layer(plane.layer, ndim)
    whole = plane.placement()
    return replace(
        whole,
        scale=tuple(scale * step for scale in whole.scale),
        translate=tuple(start + scale * (step - 1) / 2 for start, scale in zip(whole.translate, whole.scale, strict=True)),
    )


def _glow() -> Colormap:
    """Return one hue that neither grey nor the colours of the first classes have, over what is below it.

    Only its opacity grows, and steadily: more doubt never looks like less. Faint doubt, which is everywhere, hardly tints.
    """
    opacity = _OPAQUE * np.linspace(0, 1, 64) ** 1.5
    return Colormap(np.column_stack([np.tile(_HUE, (64, 1)), opacity]), name="uncertainty")
