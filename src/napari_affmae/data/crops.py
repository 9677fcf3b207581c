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


def to_read(start: int, length: int, size: int) -> tuple[npt.NDArray[np.intp], int, int]:
    """Return the part of an axis that ``start .. start + length`` shows, and how it is made of that part.

    Returns
    -------
    indices, first, last
        ``length`` positions in the part ``first .. last`` (exclusive) of the axis.
    """
    indices = reflected(start, length, size)
    first, last = int(indices.min()), int(indices.max()) + 1
    return indices - first, first, last


def crop(image: Any, row: int, column: int, tile: int) -> npt.NDArray[Any]:
    """Return ``[tile, tile, ...]`` of ``[H, W, ...]`` with its first pixel at (row, column), reflected beyond the image.

    Nothing else is read of an image that is read part by part. A view of an array where the crop lies inside, a copy otherwise.
    """
    height, width = image.shape[:2]
    rows, top, bottom = to_read(row, tile, height)
    columns, left, right = to_read(column, tile, width)
    part: npt.NDArray[Any] = image[top:bottom, left:right]
    if 0 <= row <= height - tile and 0 <= column <= width - tile:
        return part
    return part[np.ix_(rows, columns)]


def start_at(part: float, size: int, tile: int) -> int:
    """Return the start of a crop for ``part`` in 0..1: inside a large axis, or so that a small axis lies inside the crop."""
    return min(0, size - tile) + int(part * (abs(size - tile) + 1))
