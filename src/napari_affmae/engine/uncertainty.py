"""How unsure a prediction is, pixel by pixel and in the mean over squares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from .tiling import FloatArray

_BAND = 256
"""Rows that are worked on at a time: the logarithms of a whole image would be as large as its probabilities."""


def uncertainty(probabilities: FloatArray) -> FloatArray:
    """Return the entropy of the classes in every pixel over the largest there can be.

    Parameters
    ----------
    probabilities
        ``[K, H, W]``, at least two classes, which sum to 1 in every pixel.

    Returns
    -------
    float32 ``[H, W]``, from 0, where one class has all of the probability, to 1, where all classes have the same.
    """
    classes, height, width = probabilities.shape
    values = np.empty((height, width), np.float32)
    for top in range(0, height, _BAND):
        part = probabilities[:, top : top + _BAND]
        entropy = -xlogy(part, part).sum(axis=0)
        # Sums of rounded probabilities are a little more than 1 here and there.
        values[top : top + _BAND] = np.clip(entropy / math.log(classes), 0, 1)
    return values


class CellMeans:
    """Means of an image over square cells, from rows that come from top to bottom, so that no whole image is needed.

    Parameters
    ----------
    height, width
        Size of the image.
    cell
        Side of a cell in pixels; cells at the right and at the bottom may be cut off.
    """

    def __init__(self, height: int, width: int, cell: int) -> None:
        self._cell = cell
        self._starts = np.arange(0, width, cell)
        self._sums = np.zeros((-(-height // cell), len(self._starts)))
        self._known = np.zeros(self._sums.shape, np.int64)

    def add(self, top: int, values: npt.NDArray[Any]) -> None:
        """Add rows ``[rows, W]`` whose first is row ``top``; pixels that are NaN count as not known."""
        for first in range(0, len(values), _BAND):
            part = values[first : first + _BAND]
            known = np.isfinite(part)
            rows = (top + first + np.arange(len(part))) // self._cell
            filled = np.where(known, part, 0).astype(np.float64)
            np.add.at(self._sums, rows, np.add.reduceat(filled, self._starts, axis=1))
            np.add.at(self._known, rows, np.add.reduceat(known, self._starts, axis=1, dtype=np.int64))

    @property
    def means(self) -> FloatArray:
        """float32 ``[cells down, cells across]``; NaN where nothing is known."""
        with np.errstate(invalid="ignore"):
            means: FloatArray = (self._sums / self._known).astype(np.float32)
        return means


class UncertaintyMeans(CellMeans):
    """Means of the uncertainty over cells, from rows of probabilities; a :data:`~.tiling.RowFunction`."""

    def __call__(self, top: int, rows: FloatArray) -> None:
        """Take finished rows ``[K, rows, W]``."""
        self.add(top, uncertainty(rows))


def cell_means(values: npt.NDArray[Any], cell: int) -> FloatArray:
    """Return the means of ``[H, W]`` over cells; see :class:`CellMeans`."""
    means = CellMeans(values.shape[0], values.shape[1], cell)
    means.add(0, values)
    return means.means
