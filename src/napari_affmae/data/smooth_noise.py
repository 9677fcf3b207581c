"""Smooth random fields: cubic B-splines through random coefficients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]

_GAIN = 0.7 / (151 / 315)
"""Brings the standard deviation to 0.7: the squared weights of a cubic B-spline have the mean 151/315 along each axis."""


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Field:
    """Return a field of mean 0 and standard deviation 0.7 whose bumps are about ``scale`` pixels wide."""
    coarse = rng.standard_normal([int(side / scale) + 4 for side in shape])
    # One axis at a time is several times faster than an interpolation over all pixels.
    for axis, side in enumerate(shape):
        coarse = _interpolate(coarse, np.arange(side) / scale + 1, axis)
    field: Field = (coarse * _GAIN).astype(np.float32)
    return field


def _interpolate(values: npt.NDArray[np.float64], places: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
    """Return the spline along an axis at ``places``, which lie at least one coefficient inside."""
    first = places.astype(int)
    t = places - first
    weights = np.stack(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)) / 6
    matrix = np.zeros((len(places), values.shape[axis]))
    for k in range(4):
        matrix[np.arange(len(places)), first - 1 + k] += weights[k]
    return np.moveaxis(np.tensordot(matrix, values, axes=(1, axis)), 0, axis)
