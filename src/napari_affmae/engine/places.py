"""Which places to suggest: uncertain, unlike what is painted, and unlike each other. Arrays in, choices out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .tiling import FloatArray

CERTAIN = 0.02
"""Cells whose mean uncertainty is no larger have nothing to teach."""

_APART = 2
"""Cells from one candidate to the next, at least."""


def peaks(cells: FloatArray, most: int) -> list[tuple[int, int]]:
    """Return the most uncertain cells of ``[h, w]`` that are no neighbours of each other, most uncertain first.

    Cells that are NaN are left out, and those that are as good as certain. Of equal ones the first in raster order comes first.
    """
    left = np.nan_to_num(cells, nan=0.0).copy()
    chosen: list[tuple[int, int]] = []
    while len(chosen) < most:
        row, column = divmod(int(left.argmax()), left.shape[1])
        if left[row, column] <= CERTAIN:
            break
        chosen.append((row, column))
        left[max(row - _APART + 1, 0) : row + _APART, max(column - _APART + 1, 0) : column + _APART] = 0
    return chosen


def painted_cells(paint: npt.NDArray[Any], cell: int) -> npt.NDArray[np.bool_]:
    """Return which cells ``[h, w]`` of ids ``[H, W]`` hold any paint."""
    starts = np.arange(0, paint.shape[1], cell)
    rows = [np.logical_or.reduceat(paint[top : top + cell].any(axis=0), starts) for top in range(0, len(paint), cell)]
    return np.stack(rows)


def evenly(count: int, most: int) -> npt.NDArray[np.intp]:
    """Return at most so many of ``0 .. count - 1``, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp)) if count else np.empty(0, np.intp)


def unlikeness(features: FloatArray, others: FloatArray) -> FloatArray:
    """Return how far the directions of features ``[n, D]`` and ``[m, D]`` are apart: ``[n, m]``, 0 alike, 1 opposite.

    That is half the Euclidean distance of their unit vectors.
    """
    alike: FloatArray = _unit(features) @ _unit(others).T
    return np.sqrt(np.clip((1 - alike) / 2, 0, 1))


def choose(
    uncertainty: Sequence[float], features: FloatArray, painted: FloatArray, count: int
) -> list[tuple[int, float, float]]:
    """Choose candidates one after the other, each time the largest product of its uncertainty and how unlike it is.

    Parameters
    ----------
    uncertainty
        Of each candidate, 0 to 1.
    features
        ``[n, D]``, one row per candidate.
    painted
        ``[m, D]``, of what is painted; may have no rows.
    count
        How many at most.

    Returns
    -------
    list of (number of the candidate, unlikeness, score)
        In order. Unlikeness is that to the nearest of what is painted and of the candidates before, 0 to 1; it is 1 where
        there is neither.
    """
    # What all features have in common tells nothing apart.
    mean = np.concatenate([features, painted]).mean(axis=0)
    features, painted = features - mean, painted - mean
    nearest = unlikeness(features, painted).min(axis=1) if len(painted) else np.ones(len(features), np.float32)
    sure = np.asarray(uncertainty, np.float32)
    chosen: list[tuple[int, float, float]] = []
    free = np.ones(len(features), bool)
    while free.any() and len(chosen) < count:
        scores = np.where(free, sure * nearest, -1)
        best = int(scores.argmax())
        chosen.append((best, float(nearest[best]), float(scores[best])))
        free[best] = False
        nearest = np.minimum(nearest, unlikeness(features, features[best : best + 1])[:, 0])
    return chosen


def _unit(features: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: FloatArray = features / np.maximum(lengths, 1e-12)
    return unit
