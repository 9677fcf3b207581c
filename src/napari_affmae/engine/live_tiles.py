"""The tiles of one image, for live training: which of them show a place, what is on them, and how predictions add up.

The tiles are laid and blended as those of a segmentation (:mod:`~napari_affmae.engine.tiling`), but overlap by half as much:
live predictions are close to later ones, and with the same overlap equal to them. Training and prediction share them, so that
one encoded tile serves both. All of them have the same size: small images are padded by reflection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.crops import to_read
from .image_source import ImageSource
from .tiling import FloatArray, cover
from .uncertainty import uncertainty

Ints = npt.NDArray[np.int64]

OVERLAP = 8
"""Part of a tile that neighbours share. Less than a segmentation's quarter: fewer tiles to wait for."""

CANVAS_BYTES = 1 << 29
"""Memory for the prediction of one image; of one that needs more, the surroundings of what is visible are predicted."""


@dataclass(frozen=True)
class Region:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` (exclusive) in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left

    def within(self, other: Region) -> Region:
        """Return the part that lies in another region; one without pixels if none does."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Region(top, left, max(top, min(self.bottom, other.bottom)), max(left, min(self.right, other.right)))

    def meets(self, top: int, left: int, height: int, width: int) -> bool:
        """Whether a rectangle shares pixels with the region."""
        return self.top < top + height and top < self.bottom and self.left < left + width and left < self.right


class TiledImage:
    """An image as tiles ``[C, T, T]`` on a fixed raster.

    Parameters
    ----------
    source
        The image, normalised.
    tile, overlap, align
        As in :class:`~napari_affmae.engine.tiling.TiledPrediction`.
    """

    def __init__(self, source: ImageSource, tile: int, overlap: int, align: int) -> None:
        self._source = source
        self.tile = tile
        self.height, self.width = source.height, source.width
        self._rows = cover(source.height, tile, overlap, align)
        self._columns = cover(source.width, tile, overlap, align)
        self._row_weights = dict(zip(self._rows.starts, self._rows.weights(overlap), strict=True))
        self._column_weights = dict(zip(self._columns.starts, self._columns.weights(overlap), strict=True))

    @property
    def background(self) -> FloatArray:
        """See :meth:`ImageSource.background <napari_affmae.engine.image_source.ImageSource.background>`."""
        return self._source.background()

    @property
    def whole(self) -> Region:
        """All of the image."""
        return Region(0, 0, self.height, self.width)

    def tiles(self, region: Region) -> list[tuple[int, int]]:
        """Return the first row and column of the tiles that show part of a region, in raster order."""
        return [
            (top, left)
            for top in self._rows.starts
            for left in self._columns.starts
            if region.meets(top, left, self.tile, self.tile)
        ]

    def by_tile(self, rows: Ints, columns: Ints) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.intp]]]:
        """Deal pixels out to the tiles in which they lie farthest from the edges: each such tile, and which pixels it gets."""
        down = _most_central(self._rows.starts, self.tile, rows)
        across = _most_central(self._columns.starts, self.tile, columns)
        numbers = down * len(self._columns.starts) + across
        for number in np.unique(numbers).tolist():
            row, column = divmod(number, len(self._columns.starts))
            yield (self._rows.starts[row], self._columns.starts[column]), np.flatnonzero(numbers == number)

    def read(self, top: int, left: int) -> FloatArray:
        """Return the pixels of a tile."""
        rows, inner_top, inner_bottom = to_read(top, self.tile, self.height)
        columns, inner_left, inner_right = to_read(left, self.tile, self.width)
        pixels = self._source.read(inner_top, inner_bottom, inner_left, inner_right)
        if pixels.shape[1:] == (self.tile, self.tile):
            return pixels
        return np.ascontiguousarray(pixels[:, rows[:, None], columns])

    def weights(self, top: int, left: int) -> tuple[FloatArray, FloatArray]:
        """Return the windows of a tile along rows and columns; they end with the image where that is smaller than a tile."""
        return self._row_weights[top], self._column_weights[left]

    def surroundings(self, visible: Region, classes: int) -> Region:
        """Return as much around a region as a float32 canvas of that many classes may hold: all of the image if it fits."""
        side = max(self.tile, int((CANVAS_BYTES / (4 * classes)) ** 0.5))
        if self.height * self.width <= side * side:
            return self.whole
        top, left = (
            min(max((first + last - side) // 2, 0), max(size - side, 0))
            for first, last, size in (
                (visible.top, visible.bottom, self.height),
                (visible.left, visible.right, self.width),
            )
        )
        return Region(top, left, top + side, left + side).within(self.whole)


class Canvas:
    """Adds up the predictions of tiles; a part is final once all tiles that show it were added.

    Parameters
    ----------
    image
        The image.
    extent
        The part that is predicted.
    """

    def __init__(self, image: TiledImage, extent: Region) -> None:
        self._image = image
        self._extent = extent
        self._sums: FloatArray | None = None

    def add(self, place: tuple[int, int], probabilities: FloatArray) -> None:
        """Add the prediction ``[K, T, T]`` of a tile."""
        if self._sums is None:
            self._sums = np.zeros((len(probabilities), *self._extent.shape), np.float32)
        down, across = self._image.weights(*place)
        top, left = place
        part = Region(top, left, top + len(down), left + len(across)).within(self._extent)
        rows, columns = slice(part.top - top, part.bottom - top), slice(part.left - left, part.right - left)
        weighted = probabilities[:, rows, columns] * down[rows, None] * across[columns]
        self._part(part)[...] += weighted

    def classes(self, region: Region) -> npt.NDArray[np.intp]:
        """Return the most probable class index of each pixel of a region."""
        indices: npt.NDArray[np.intp] = self._part(region).argmax(axis=0)
        return indices

    def uncertainty(self, region: Region) -> FloatArray:
        """Return how unsure the prediction of each pixel of a region is, 0 to 1."""
        return uncertainty(self._part(region))

    def _part(self, region: Region) -> FloatArray:
        if self._sums is None:
            raise ValueError("nothing was predicted yet: add tiles first")
        top, left = self._extent.top, self._extent.left
        part: FloatArray = self._sums[:, region.top - top : region.bottom - top, region.left - left : region.right - left]
        return part


def finished_bands(tiles: Sequence[tuple[int, int]], region: Region) -> Iterator[tuple[list[tuple[int, int]], Region]]:
    """Group tiles in raster order by rows of tiles, each with the part of a region that is final after it.

    Without tiles, because all that show the region were added already, all of it is final.
    """
    tops = sorted({top for top, _ in tiles}) or [region.top]
    begin = region.top
    for place, top in enumerate(tops):
        end = region.bottom if place + 1 == len(tops) else min(max(tops[place + 1], begin), region.bottom)
        yield [tile for tile in tiles if tile[0] == top], Region(begin, region.left, end, region.right)
        begin = end


def _most_central(starts: Sequence[int], tile: int, positions: Ints) -> npt.NDArray[np.intp]:
    """Return for each position the number of the tile in whose middle it lies most nearly."""
    nearest: npt.NDArray[np.intp] = np.abs(2 * (positions[:, None] - np.array(starts)) - tile).argmin(axis=1)
    return nearest
