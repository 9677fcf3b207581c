"""One plane of an image layer: what a job reads, and where its overlays go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import numpy.typing as npt

from ..data.lazy_plane import LazyPlane
from ..data.plane_names import plane_name
from ..data.records import ImageRecord
from ..data.zarr_file import ZarrFile, is_zarr
from .placement import Placement, pixel_size_of
from .state import CurrentImage

if TYPE_CHECKING:
    from napari.layers import Image

LARGEST_IN_MEMORY = 1 << 26
"""Pixels of a plane. A quarter of a gigabyte of probabilities for each class."""

_BLOCK = 1024

_SAMPLES = 1 << 18
_SHOWN = (0.1, 99.8)
"""Pixels that the shown range of values is measured on, and its percentiles."""

as_dask: Any = dask.array.from_array  # it has no types

RECORD = "napari_affmae_record"
"""Key in ``layer.metadata`` of an image opened from the list: its :class:`ImageRecord`."""

CHANNELS = "napari_affmae_channels"
"""Key in ``layer.metadata`` of a coloured image that the user opened: which of its channels jobs see; all if it is missing."""

NAME = "napari_affmae_name"
"""Key in ``layer.metadata`` of any other image with overlays: what it was called when it got the first one."""

UNSURE = "napari_affmae_unsure"
"""Key in ``layer.metadata`` of any image: how unsure its prediction is, and the side in pixels of the squares that these values
are means of."""


@dataclass(frozen=True)
class Plane:
    """The plane ``index`` (one number per axis above rows and columns) of an image layer.

    ``corner`` is the row and column at which two-dimensional overlays start: (0, 0) unless only a part was looked at.
    """

    layer: Image
    index: tuple[int, ...]
    corner: tuple[int, int] = (0, 0)

    @property
    def group(self) -> str:
        """Name that the layer's overlays carry, however the user renames the layer."""
        record = self.layer.metadata.get(RECORD)
        return record.name if isinstance(record, ImageRecord) else str(self.layer.metadata.get(NAME, self.layer.name))

    @property
    def name(self) -> str:
        """Name of the image; planes of a stack as ``stack[3]``."""
        return plane_name(self.group, self.index)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = spatial_shape(self.layer)[-2:]
        return height, width

    def placement(self) -> Placement:
        """Return where a two-dimensional overlay goes."""
        return Placement.of_layer(self.layer, 2).shifted(*self.corner)

    def part_around(self, centre: tuple[float, float], side: int) -> tuple[slice, slice] | None:
        """Return rows and columns of at most ``side`` pixels each around a place, or None if the whole plane is no larger."""
        height, width = self.shape
        if height * width <= side * side:
            return None
        rows, columns = (
            slice(start, start + min(side, size))
            for size, middle in zip((height, width), centre, strict=True)
            for start in [min(max(round(middle) - side // 2, 0), max(size - side, 0))]
        )
        return rows, columns

    def record(self) -> ImageRecord:
        """Return the record that jobs read: the file's own, or one over the layer's pixels."""
        record = self.layer.metadata.get(RECORD)
        if isinstance(record, ImageRecord):
            return record
        # Nothing is read here, in the main thread; and alpha is no intensity.
        axes = (*self.index, "y", "x", *("c" * self.layer.rgb))
        pixels = LazyPlane(full_resolution(self.layer), axes, (0, 1, 2) if self.layer.rgb else None)
        height, width, channels = pixels.shape
        chosen = self.layer.metadata.get(CHANNELS) if self.layer.rgb else None
        return ImageRecord(
            self.name,
            height,
            width,
            channels if chosen is None else len(chosen),
            str(pixels.dtype),
            pixel_size_of(self.layer),
            chosen_channels=chosen,
            array=pixels,
        )

    def current_image(self) -> CurrentImage:
        """Return what the forms say about it."""
        return CurrentImage(self.name, *self.shape, pixel_size_of(self.layer), self.record().channels)


def is_large(plane: Plane) -> bool:
    """Whether the result for a plane should not be held in memory."""
    height, width = plane.shape
    return height * width > LARGEST_IN_MEMORY


def full_resolution(layer: Image) -> Any:
    """Return the pixels of a layer, of the finest level if it has several."""
    return layer.data[0] if layer.multiscale else layer.data


def spatial_shape(layer: Image) -> tuple[int, ...]:
    """Return the shape of a layer without its colours."""
    shape = tuple(int(size) for size in full_resolution(layer).shape)
    return shape[:-1] if layer.rgb else shape


def pixels_to_show(record: ImageRecord) -> Any:
    """Return the pixels of an image for :func:`for_display`: read, or a list of scales that are read part by part.

    That is for images stored at several scales of which the finest is large; napari then reads what is seen.
    """
    if record.path is not None and record.height * record.width > LARGEST_IN_MEMORY and is_zarr(record.path):
        scales = ZarrFile(record.path).scales(record.page or 0)
        if len(scales) > 1:
            if record.chosen_channels is not None:
                scales = [plane.with_channels(record.chosen_channels) for plane in scales]
            blocks = [(_BLOCK, _BLOCK, plane.shape[2]) for plane in scales]
            return [as_dask(plane, chunks=chunks) for plane, chunks in zip(scales, blocks, strict=True)]
    return record.read()


def grey_limits(pixels: Any) -> tuple[float, float] | None:
    """Return between which grey values an image in memory is worth showing: a few hot pixels must not leave the rest black.

    None if it has no such range, or is not in memory.
    """
    if not isinstance(pixels, np.ndarray) or not pixels.size:
        return None
    sample = _sample(pixels, pixels.ndim)
    low, high = np.nanpercentile(sample, _SHOWN).tolist() if np.isfinite(sample).any() else (0.0, 0.0)
    return (low, high) if low < high else None


def _sample(pixels: npt.NDArray[Any], axes: int) -> npt.NDArray[Any]:
    """Return pixels on a grid over the first so many axes, few enough to be sorted in no time."""
    every = max(1, int((math.prod(pixels.shape[:axes]) / _SAMPLES) ** (1 / axes)))
    return pixels[(slice(None, None, every),) * axes]


def for_display(pixels: Any) -> tuple[Any, bool]:
    """Turn ``[H, W, C]`` into what an image layer shows, and say whether that is RGB.

    A list of scales stays a list; of channels that are no colours it shows the first.
    One channel stays as it is. Otherwise the first three become red, green and blue, each stretched to its own range unless
    they are bytes. Only the display is changed: jobs read the file.
    """
    if isinstance(pixels, list):
        rgb = pixels[0].shape[2] == 3 and pixels[0].dtype == np.uint8
        return pixels if rgb else [level[..., 0] for level in pixels], rgb
    if pixels.shape[2] == 1:
        return pixels[..., 0], False
    shown = pixels[..., :3]
    if shown.dtype != np.uint8:
        # Half the width of what numpy would take for pixels of 16 bits, and three times as quick.
        exact = np.result_type(shown.dtype, np.float32)
        low, high = np.percentile(_sample(shown, 2), (0.1, 99.9), axis=(0, 1)).astype(exact)
        shown = np.clip((shown - low) / np.maximum(high - low, 1e-12), 0, 1).astype(np.float32, copy=False)
    if shown.shape[2] == 2:
        shown = np.concatenate([shown, np.zeros_like(shown[..., :1])], axis=2)
    return shown, True
