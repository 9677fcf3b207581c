"""Parts of an image: all of it, piece by piece, or windows that stand for one that is too large to be looked at as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

_BLOCK = 1024
"""Side of a block in pixels."""

_WINDOW, _PER_SIDE = 256, 8
"""Side of a window in pixels, and how many there are along each side of an image."""

WINDOWS = _PER_SIDE**2


def blocks(image: Any) -> Iterator[Any]:
    """Yield ``[H, W, ...]`` in blocks of up to 1024 × 1024 pixels, each pixel once."""
    height, width = image.shape[:2]
    for top, left in itertools.product(range(0, height, _BLOCK), range(0, width, _BLOCK)):
        yield image[top : top + _BLOCK, left : left + _BLOCK]


def windows(image: Any) -> Iterator[Any]:
    """Yield :data:`WINDOWS` windows of up to 256 × 256 pixels, evenly spaced over ``[H, W, ...]``."""
    rows, columns = (np.linspace(0, max(0, side - _WINDOW), _PER_SIDE).astype(int).tolist() for side in image.shape[:2])
    for top, left in itertools.product(rows, columns):
        yield image[top : top + _WINDOW, left : left + _WINDOW]
