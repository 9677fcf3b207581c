"""One image of an OME-Zarr, written row by row, with its coarser scales made at the end.

https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from ..card import PixelSize

VERSION = "0.5"
CHUNK = 512

Pixels = npt.NDArray[Any]


class Pyramid:
    """An image ``[..., H, W]`` at several scales in a zarr group.

    Parameters
    ----------
    group
        Where to write.
    shape, dtype
        Of the finest scale.
    name
        What the metadata call it.
    pixel_size
        Size of a pixel of the finest scale, if known.
    ids
        Whether the values are ids, which cannot be averaged.
    more
        Other OME metadata of the group.
    """

    def __init__(
        self,
        group: zarr.Group,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        name: str,
        pixel_size: PixelSize | None,
        *,
        ids: bool = False,
        more: dict[str, Any] | None = None,
    ) -> None:
        self._group = group
        self._name = name
        self._more = more or {}
        self._halve: Callable[[Pixels], Pixels] = _every_other if ids else _mean
        unit = {} if pixel_size is None else {"unit": pixel_size.unit}
        self._axes = [{"name": "c", "type": "channel"}] * (len(shape) - 2)
        self._axes += [{"name": axis, "type": "space", **unit} for axis in "yx"]
        self._side = (1.0, 1.0) if pixel_size is None else (pixel_size.y, pixel_size.x)
        self._level = self._create(0, shape, dtype)

    def write(self, top: int, pixels: Pixels, left: int = 0) -> None:
        """Write a part ``[..., h, w]`` of the finest scale at a place."""
        self._level[..., top : top + pixels.shape[-2], left : left + pixels.shape[-1]] = pixels

    def finish(self) -> None:
        """Make the coarser scales by factors of two, and write the metadata that place them all."""
        finer, datasets = self._level, [self._dataset(0)]
        while min(finer.shape[-2:]) >= 2 and max(finer.shape[-2:]) > CHUNK:
            level = len(datasets)
            coarser = self._create(level, (*finer.shape[:-2], *(size // 2 for size in finer.shape[-2:])), finer.dtype)
            for rows, columns in blocks(coarser.shape[-2:]):
                four = finer[..., 2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop]
                coarser[..., rows, columns] = self._halve(np.asarray(four))
            datasets.append(self._dataset(level))
            finer = coarser
        multiscales = [{"name": self._name, "axes": self._axes, "datasets": datasets}]
        ome: dict[str, Any] = {"version": VERSION, "multiscales": multiscales, **self._more}
        self._group.attrs["ome"] = ome

    def _create(self, level: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> zarr.Array[Any]:
        return self._group.create_array(
            str(level),
            shape=shape,
            chunks=(1,) * (len(shape) - 2) + tuple(max(1, min(CHUNK, size)) for size in shape[-2:]),
            dtype=dtype,
            dimension_names=[axis["name"] for axis in self._axes],
        )

    def _dataset(self, level: int) -> dict[str, Any]:
        factor = 2**level
        ones, zeros = [1.0] * (len(self._axes) - 2), [0.0] * (len(self._axes) - 2)
        # Averages lie between the pixels that they were made of; every other pixel stays where it was.
        shift = (factor - 1) / 2 if self._halve is _mean else 0.0
        return {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [*ones, *(side * factor for side in self._side)]},
                {"type": "translation", "translation": [*zeros, *(side * shift for side in self._side)]},
            ],
        }


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the chunks of an image ``(H, W)``; work on one at a time needs no memory for the others."""
    for top in range(0, shape[0], CHUNK):
        for left in range(0, shape[1], CHUNK):
            yield slice(top, min(top + CHUNK, shape[0])), slice(left, min(left + CHUNK, shape[1]))


def _mean(pixels: Pixels) -> Pixels:
    """Halve the last two axes by averaging; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in pixels.shape[-2:])
    parts = [pixels[..., row:height:2, column:width:2].astype(np.float32) for row in (0, 1) for column in (0, 1)]
    mean = sum(parts[1:], start=parts[0]) / 4
    return (np.rint(mean) if pixels.dtype.kind in "ui" else mean).astype(pixels.dtype)


def _every_other(ids: Pixels) -> Pixels:
    """Halve the last two axes by keeping every other pixel: ids cannot be averaged."""
    height, width = (size // 2 * 2 for size in ids.shape[-2:])
    return ids[..., :height:2, :width:2]
