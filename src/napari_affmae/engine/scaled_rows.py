"""Rows of a prediction on their way back to the pixels of the image, where the network saw it at another pixel size."""

from __future__ import annotations

import numpy as np

from .image_source import resampling
from .tiling import FloatArray, RowFunction

_BAND = 256
"""Rows, or columns, that are worked on at a time: the mixing matrices of a whole large image would be larger than it."""


class ScaledRows:
    """Resamples finished rows ``[K, rows, w]`` linearly and hands them on; sums over classes stay 1.

    Parameters
    ----------
    small
        Height and width of the prediction in pixels.
    large
        Height and width to resample to.
    into
        Takes the resampled rows.
    """

    def __init__(self, small: tuple[int, int], large: tuple[int, int], into: RowFunction) -> None:
        self._small = small
        self._large = large
        self._into = into
        self._next = 0
        self._first = 0
        self._waiting: FloatArray | None = None

    def __call__(self, top: int, rows: FloatArray) -> None:
        """Take finished rows; see :data:`~napari_affmae.engine.tiling.RowFunction`."""
        waiting = rows.copy() if self._waiting is None else np.concatenate([self._waiting, rows], axis=1)
        height = self._large[0]
        while self._next < height:
            bottom = min(self._next + _BAND, height)
            first, weights = resampling(self._small[0], height, self._next, bottom)
            start = first - self._first
            if start + weights.shape[1] > waiting.shape[1]:
                # What is above the rows needed next will not be asked for again.
                waiting, self._first = waiting[:, start:].copy(), first
                break
            self._into(self._next, self._across(weights @ waiting[:, start : start + weights.shape[1]]))
            self._next = bottom
        self._waiting = waiting

    def _across(self, rows: FloatArray) -> FloatArray:
        width = self._large[1]
        output = np.empty((*rows.shape[:2], width), np.float32)
        for left in range(0, width, _BAND):
            right = min(left + _BAND, width)
            first, columns = resampling(self._small[1], width, left, right)
            output[:, :, left:right] = rows[:, :, first : first + columns.shape[1]] @ columns.T
        return output
