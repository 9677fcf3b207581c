"""Where a person would draw: a straight stroke through the middle of a region."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

DIRECTIONS = 24
LONGEST = 40
"""Pixels on either side of where a stroke is thickest inside."""

Stroke = tuple[tuple[float, float], tuple[float, float]]
Mask = npt.NDArray[np.bool_]


def stroke_in(region: Mask, within: Mask, brush: float) -> Stroke | None:
    """Return both ends, row and column, of a long stroke that starts in a region and never leaves another around it.

    None if a brush so many pixels wide has no room.
    """
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    room = ndimage.distance_transform_edt(np.pad(within, 1))[1:-1, 1:-1] > brush / 2 + 0.5
    depth[~room] = 0
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    if depth[row, column] == 0:
        return None
    ends = []
    for turn in range(DIRECTIONS):
        angle = math.pi * turn / DIRECTIONS
        step = math.sin(angle), math.cos(angle)
        ends.append((_reach(room, row, column, step, 1), _reach(room, row, column, step, -1)))
    return max(ends, key=lambda pair: math.dist(*pair))


def largest_error(wrong: Mask) -> Mask:
    """Return the part of a mask that is connected and reaches deepest."""
    depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
    parts, _ = ndimage.label(wrong)
    found: Mask = parts == parts[np.unravel_index(int(np.argmax(depth)), depth.shape)]
    return found & wrong


def _reach(room: Mask, row: int, column: int, step: tuple[float, float], sign: int) -> tuple[float, float]:
    """Return how far a straight line gets."""
    here = float(row), float(column)
    for far in range(1, LONGEST + 1):
        ahead = row + sign * far * step[0], column + sign * far * step[1]
        place = round(ahead[0]), round(ahead[1])
        if not (0 <= place[0] < room.shape[0] and 0 <= place[1] < room.shape[1] and room[place]):
            break
        here = ahead
    return here
