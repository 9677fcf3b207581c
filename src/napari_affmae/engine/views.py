"""Prediction from several views of a tile: mirrored, turned, predicted, turned back, and averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..config import Views
from .tiling import FloatArray

Predict = Callable[[FloatArray], FloatArray]


def from_views(predict: Predict, views: Views) -> Predict:
    """Return a function that averages a prediction over symmetric views of its tiles.

    A network was never told that a mirrored cell is a cell: what it says of both differs a little, and the mean errs less.

    Parameters
    ----------
    predict
        From tiles ``[B, C, h, w]`` to probabilities ``[B, K, h, w]``.
    views
        1 returns ``predict`` itself, 2 adds the mirror image, 4 mirrors both ways, and 8 swaps rows and columns, too; it takes
        so many times as long.
    """
    if views == 1:
        return predict

    def averaged(tiles: FloatArray) -> FloatArray:
        total: FloatArray | None = None
        for code in range(views):
            # Not ascontiguousarray: of a side of one pixel it keeps the negative stride, which torch does not take.
            predicted = _turned(predict(_turned(tiles, code).copy()), code, back=True)
            total = predicted.copy() if total is None else total + predicted
        if total is None:
            raise ValueError(f"views must be 1, 2, 4 or 8, got {views}")
        return total / np.float32(views)

    return averaged


def _turned(array: FloatArray, code: int, *, back: bool = False) -> FloatArray:
    """Mirror columns (bit 1) and rows (bit 2), then swap both (bit 4); ``back`` undoes it."""
    if back and code & 4:
        array = array.swapaxes(-1, -2)
    if code & 1:
        array = np.flip(array, -1)
    if code & 2:
        array = np.flip(array, -2)
    return array.swapaxes(-1, -2) if code & 4 and not back else array
