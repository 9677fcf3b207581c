"""Square crops of images of any size; what is missing is filled by reflection."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def reflected(start: int, length: int, size: int) -> npt.NDArray[np.intp]:
    """Return the indices of ``start .. start + length`` in an axis of ``size``, reflected at both ends as often as needed.

    The edge itself is not repeated, except in an axis of one.
    """
    if size == 1:
        return np.zeros(length, np.intp)
    period = 2 * (size - 1)
    folded = np.arange(start, start + length) % period
    return np.minimum(folded, period - folded)


def crop(image: npt.NDArray[Any], row: int, column: int, tile: int) -> npt.NDArray[Any]:
    """Return ``[tile, tile, ...]`` of ``[H, W, ...]`` with its first pixel at (row, column), reflected beyond the image.

    A view where the crop lies inside, a copy otherwise.
    """
    height, width = image.shape[:2]
    if 0 <= row <= height - tile and 0 <= column <= width - tile:
        return image[row : row + tile, column : column + tile]
    return image[np.ix_(reflected(row, tile, height), reflected(column, tile, width))]


def start_at(part: float, size: int, tile: int) -> int:
    """Return the start of a crop for ``part`` in 0..1: inside a large axis, or so that a small axis lies inside the crop."""
    return min(0, size - tile) + int(part * (abs(size - tile) + 1))
