"""Overlapping tiles, blended so that they add up: predict an image of any size with a function of small tiles.

The tiles of a row share their row weights and those of a column their column weights, so the blending window is a product of
two one-dimensional windows, each made to sum to one over all tiles that cover a pixel. Predictions are simply added up; no
second array counts the weights. Tiles go from top to bottom, so that rows are finished, and can leave memory, as soon as no
tile below reaches them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.records import ImageCollection
from ..errors import ConfigError
from .image_source import ImageSource

_LEAST_CHOSEN = 64
"""Side of the smallest tile that is chosen for small images, in pixels."""

FloatArray = npt.NDArray[np.float32]
TileFunction = Callable[[FloatArray], FloatArray]
"""From tiles ``[B, C, h, w]`` to predictions ``[B, K, h, w]``."""

RowFunction = Callable[[int, FloatArray], None]
"""Takes finished rows ``[K, rows, W]`` and the number of the first one, from top to bottom, each row once. The array is used
again afterwards: what is kept must be copied."""


class WholeImage:
    """Gathers finished rows into one array.

    Attributes
    ----------
    values
        float32 ``[K, H, W]``, or None before the first rows.
    """

    def __init__(self, height: int) -> None:
        self._height = height
        self.values: FloatArray | None = None

    def __call__(self, top: int, rows: FloatArray) -> None:
        """Take finished rows; see :data:`RowFunction`."""
        if self.values is None:
            self.values = np.empty((rows.shape[0], self._height, rows.shape[2]), np.float32)
        self.values[:, top : top + rows.shape[1]] = rows


class _OpenRows:
    """The sums of those rows that tiles still add to."""

    def __init__(self, width: int, into: RowFunction) -> None:
        self._width = width
        self._into = into
        self._top = 0
        self._sums: FloatArray = np.zeros((0, 0, width), np.float32)

    def add(self, top: int, left: int, values: FloatArray) -> None:
        """Add ``[K, h, w]`` at a place."""
        bottom = top + values.shape[1] - self._top
        if bottom > self._sums.shape[1]:
            more = np.zeros((values.shape[0], bottom, self._width), np.float32)
            if self._sums.size:
                more[:, : self._sums.shape[1]] = self._sums
            self._sums = more
        self._sums[:, top - self._top : bottom, left : left + values.shape[2]] += values

    def finish(self, bottom: int) -> None:
        """Hand on the rows above ``bottom``."""
        count = bottom - self._top
        if count <= 0:
            return
        self._into(self._top, self._sums[:, :count])
        for plane in self._sums:
            plane[: len(plane) - count] = plane[count:]
            plane[len(plane) - count :] = 0
        self._top = bottom


@dataclass(frozen=True)
class Axis:
    """How one image axis is covered by tiles of equal size.

    Attributes
    ----------
    size, tile
        Pixels of the axis and of a tile. The last tile may reach beyond the axis, by less than the alignment.
    starts
        First pixel of each tile, ascending.
    """

    size: int
    tile: int
    starts: tuple[int, ...]

    def weights(self, overlap: int) -> list[FloatArray]:
        """Return the window of each tile, float32 ``[tile]``; where tiles overlap, windows sum to 1."""
        ramp = np.ones(self.tile)
        reach = min(overlap, self.tile // 2)
        if reach:
            # Half a pixel in, so that no weight is zero: at the edge of the image a tile may be alone.
            rise = np.sin(0.5 * math.pi * (np.arange(reach) + 0.5) / reach) ** 2
            ramp[:reach] = rise
            ramp[self.tile - reach :] = rise[::-1]
        total = np.zeros(self.starts[-1] + self.tile)
        for start in self.starts:
            total[start : start + self.tile] += ramp
        return [(ramp / total[start : start + self.tile]).astype(np.float32) for start in self.starts]


def check_tile(tile: int, align: int) -> None:
    """Raise :class:`ConfigError` if the side of a tile is no multiple of ``align``, the side of a patch."""
    if tile < align or tile % align:
        below = tile // align * align
        near = f"{below} or {below + align}" if below else f"{align}"
        raise ConfigError(f"a tile must be a multiple of {align} pixels for this model, got {tile}: take {near}")


def check_tile_fits(tile: int, images: ImageCollection, align: int) -> None:
    """Raise :class:`ConfigError` if the side of a tile is more than twice that of every image: it would show mirror images."""
    side = max(max(record.height, record.width) for record in images.records)
    if tile > 2 * side:
        raise ConfigError(
            f"a tile of {tile} pixels is more than twice as large as the largest image, whose longer side has {side}: "
            f"nearly all of it would be mirror images; take {-(-side // align) * align} or less"
        )


def fitting_tile(most: int, images: ImageCollection, align: int) -> int:
    """Choose the side of a tile that was left open: ``most`` pixels, or what fits into more than half of the images.

    What does not fit is filled by reflection: work for nothing, and in pretraining hidden patches can be seen in the mirror. A
    tile of less than 64 pixels shows too little around a pixel, and is not chosen.
    """
    sides = sorted((min(record.height, record.width) for record in images.records), reverse=True)
    return min(most, max(_LEAST_CHOSEN, sides[len(sides) // 2] // align * align))


def padded_images(tile: int, images: ImageCollection) -> str | None:
    """Say how many images are smaller than a tile; None if none is."""
    small = sum(min(record.height, record.width) < tile for record in images.records)
    if not small:
        return None
    of_all = f"{small} of {len(images)} images are" if len(images) > 1 else "the image is"
    return f"{of_all} smaller than the tile of {tile} pixels and padded by reflection"


def cover(size: int, tile: int, overlap: int, align: int) -> Axis:
    """Cover an axis with as few tiles as possible that overlap by at least ``overlap`` and start at multiples of ``align``.

    An axis that is shorter than a tile is covered by one tile of its own size.
    """
    if size <= tile:
        return Axis(size, size, (0,))
    last = math.ceil((size - tile) / align) * align
    stride = max(align, (tile - overlap) // align * align)
    count = math.ceil(last / stride) + 1
    return Axis(size, tile, tuple(round(last * i / (count - 1) / align) * align for i in range(count)))


class TiledPrediction:
    """One image on its way through a function of tiles.

    The image is read tile by tile. Memory is that of one batch of tiles and of the rows that it spans. A function that treats
    every pixel by itself gives the same as on the whole image, up to rounding.

    Parameters
    ----------
    function
        What to apply.
    source
        The image.
    tile
        Side of a tile in pixels; images that are smaller are one tile.
    overlap
        Least overlap of neighbouring tiles in pixels.
    batch
        Tiles at once.
    align
        Tiles start at multiples of this, so that a network's patches lie in the same places in all of them.
    into
        Takes finished rows; a :class:`WholeImage` gathers them.

    Raises
    ------
    ConfigError
        If the overlap leaves no room to move on.
    """

    def __init__(
        self,
        function: TileFunction,
        source: ImageSource,
        *,
        tile: int,
        overlap: int,
        batch: int,
        align: int = 1,
        into: RowFunction,
    ) -> None:
        check_tile(tile, align)
        if not 0 <= overlap <= tile // 2:
            raise ConfigError(f"overlap must be from 0 to half the tile of {tile} pixels, got {overlap}")
        if batch < 1:
            raise ConfigError(f"batch must be at least 1, got {batch}")
        self._function = function
        self._source = source
        self._batch = batch
        self._rows = cover(source.height, tile, overlap, align)
        self._columns = cover(source.width, tile, overlap, align)
        row_weights, column_weights = self._rows.weights(overlap), self._columns.weights(overlap)
        self._tiles = [
            (top, left, down, across)
            for top, down in zip(self._rows.starts, row_weights, strict=True)
            for left, across in zip(self._columns.starts, column_weights, strict=True)
        ]
        self._into = into

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self._tiles)

    def run(self) -> Iterator[int]:
        """Predict batch by batch; yield the number of tiles done so far."""
        height, width = self._source.height, self._source.width
        rows = _OpenRows(width, self._into)
        for first in range(0, len(self._tiles), self._batch):
            batch = self._tiles[first : first + self._batch]
            predicted = self._function(np.stack([self._read(top, left) for top, left, _, _ in batch]))
            for (top, left, down, across), values in zip(batch, predicted, strict=True):
                weighted = values * down[:, None] * across
                rows.add(top, left, weighted[:, : height - top, : width - left])
            done = first + len(batch)
            rows.finish(self._tiles[done][0] if done < len(self._tiles) else height)
            yield done

    def _read(self, top: int, left: int) -> FloatArray:
        bottom = min(top + self._rows.tile, self._source.height)
        right = min(left + self._columns.tile, self._source.width)
        pixels = self._source.read(top, bottom, left, right)
        missing = self._rows.tile - (bottom - top), self._columns.tile - (right - left)
        if any(missing):
            pixels = np.pad(pixels, ((0, 0), (0, missing[0]), (0, missing[1])), mode="reflect")
        return pixels
