"""Which image a name in the project stands for, where images are open as layers and no folder says it.

napari calls many layers “Image”. The project keeps a signature of each that was painted, and another image of that name gets
a number, as one that is open at the same time does; so neither sees, nor overwrites, the paint of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.fingerprint import fingerprint
from .overlays import GROUP, KEPT, KIND
from .plane import RECORD, full_resolution

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from .keeper import ProjectKeeper
    from .layers import OverlayLayers

_SAMPLES = 1 << 16
"""Pixels that a signature is made of; on a grid, so that it takes no time."""


class LayerIdentity:
    """Tells images that are open as layers from those that the project knows by the same names."""

    def __init__(self, layers: OverlayLayers, keeper: ProjectKeeper) -> None:
        self._layers = layers
        self._keeper = keeper
        layers.names_of_others = self._names_of_others
        layers.overlay_added.connect(self._remember)

    def _names_of_others(self, image: Image) -> set[str]:
        known = self._keeper.file.layers
        if not known:
            return set()
        mine = signature(image)
        return {name for name, one in known.items() if one != mine}

    def _remember(self, layer: Layer) -> None:
        """Keep which image it is that gets paint or a segmentation."""
        if layer.metadata.get(KIND) not in KEPT:
            return
        group, known = str(layer.metadata[GROUP]), self._keeper.file.layers
        plane = self._layers.plane_named(group)
        if plane is not None and RECORD not in plane.layer.metadata and group not in known:
            self._keeper.update(layers={**known, group: signature(plane.layer)})


def signature(image: Image) -> str:
    """Return what tells an image from others: its size, and the values of a sample of its pixels if they lie in memory."""
    pixels = full_resolution(image)
    if type(pixels) is not np.ndarray:  # neither dask, nor zarr, nor a mapped file: a sample would read much of it
        return "x".join(map(str, (*pixels.shape, np.dtype(pixels.dtype).str)))
    every = max(1, int(np.ceil((pixels.size / _SAMPLES) ** (1 / pixels.ndim))))
    sample = pixels[(slice(None, None, every),) * pixels.ndim]
    return "x".join(map(str, (*pixels.shape, fingerprint(sample.reshape(len(sample), -1)))))
