"""Which image a name in the project stands for, where images are open as layers and no folder says it.

napari calls many layers “Image”. The project keeps a signature of each that was painted: the same image goes by the same name
again, and another one by a name that is free, so that neither sees, nor overwrites, the paint of the other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ..data.fingerprint import fingerprint
from ..data.plane_names import split_name
from .kinds import GROUP, KEPT, KIND, PROJECT
from .plane import NAME, RECORD, Plane, full_resolution

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from .keeper import ProjectKeeper
    from .layers import OverlayLayers

_SAMPLES = 1 << 16
"""Pixels that a signature is made of; on a grid, so that it takes no time."""

_NUMBER = re.compile(r" (\(\d+\)|\[\d+\])$")
"""What we, or napari, add to a name that is taken."""


class LayerIdentity:
    """Tells images that are open as layers from those that the project knows by the same names."""

    def __init__(self, layers: OverlayLayers, keeper: ProjectKeeper) -> None:
        self._layers = layers
        self._keeper = keeper
        layers.known_names = self._known_names
        layers.overlay_added.connect(self._on_overlay)

    def take_up(self, here: str) -> None:
        """Give images the names by which the project in a folder knows them, with what lies on them."""
        for image in self._layers.images():
            if RECORD in image.metadata:
                continue
            group = Plane(image, ()).group
            kept = self._layers.kept(group)
            if kept and group in self._known_names(image)[1]:
                if kept[0].metadata.get(PROJECT) != here:
                    self._layers.rename(image)
                elif NAME not in image.metadata:
                    # The image under it was exchanged while no dock was open; what was painted is in the project.
                    self._layers.remove_kept(group)
            self._layers.settle(image)

    def remember(self) -> None:
        """Keep which images there are paint and segmentations of."""
        for layer in self._layers.overlays():
            self._on_overlay(layer)

    def _known_names(self, image: Image) -> tuple[list[str], set[str]]:
        """Return the names by which the project knows this very image, its own first, and those of other images."""
        file = self._keeper.file
        of_folder = {split_name(name)[0] if entry.index else name for name, entry in file.images.items()} - file.layers.keys()
        if not file.layers:
            return [], of_folder
        mine, base = signature(image), _NUMBER.sub("", image.name)
        same = [name for name, one in file.layers.items() if one == mine]
        own = sorted((name for name in same if _NUMBER.sub("", name) == base), key=lambda name: name != image.name)
        return own, of_folder | (file.layers.keys() - set(same))

    def _on_overlay(self, layer: Layer) -> None:
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
    sample = pixels[tuple(slice(None, None, step) for step in _steps(pixels.shape))]
    return "x".join(map(str, (*pixels.shape, fingerprint(sample.reshape(len(sample), -1)))))


def _steps(shape: tuple[int, ...]) -> list[int]:
    """Return a step for each axis; short axes, as of colours and slices, are not left to chance."""
    steps, left = [1] * len(shape), float(_SAMPLES)
    axes = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for place, axis in enumerate(axes):
        share = max(left ** (1 / (len(axes) - place)), 1.0)
        steps[axis] = max(1, int(np.ceil(shape[axis] / share)))
        left /= -(-shape[axis] // steps[axis])
    return steps
