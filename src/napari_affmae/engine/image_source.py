"""Images that are read part by part: numpy, dask and zarr behind one interface, normalised and rescaled on the way."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..card import Normalisation
from ..data.normalisation import apply, measure_array
from ..data.records import prepare
from ..errors import DataError
from ..model.filters import background_of

FloatArray = npt.NDArray[np.float32]

_SAMPLES = 4
"""Windows per axis that are read to measure an image without reading all of it."""

_SAMPLE_SIDE = 256


class ImageSource(ABC):
    """An image ``[C, H, W]`` of float32 that is read part by part."""

    channels: int
    height: int
    width: int

    @abstractmethod
    def read(self, top: int, bottom: int, left: int, right: int) -> FloatArray:
        """Return ``[C, bottom - top, right - left]``; the bounds lie inside the image."""

    @abstractmethod
    def background(self) -> FloatArray:
        """Return how bright the background is, ``[C]``, on windows spread over the image if it is large."""


class ArraySource(ImageSource):
    """An array in memory or elsewhere, raw.

    Parameters
    ----------
    array
        ``[H, W]`` or ``[H, W, C]``; anything with a shape that is sliced like numpy, such as dask and zarr arrays.
    normalisation
        Statistics to apply, or None for raw values.

    Raises
    ------
    DataError
        If the array has another number of axes, or no pixels.
    """

    def __init__(self, array: Any, normalisation: Normalisation | None = None) -> None:
        if not hasattr(array, "shape"):
            array = np.asarray(array)
        shape = tuple(int(side) for side in array.shape)
        if len(shape) not in (2, 3):
            raise DataError(f"expected an image [H, W] or [H, W, C], got shape {shape}; give one plane of a stack at a time")
        if 0 in shape:
            raise DataError(f"the image has no pixels: its shape is {shape}")
        self._array = array
        self._normalisation = normalisation
        self.height, self.width = shape[:2]
        self.channels = shape[2] if len(shape) == 3 else 1
        self._background: FloatArray | None = None

    def raw(self, top: int, bottom: int, left: int, right: int) -> npt.NDArray[Any]:
        """Return a part as ``[h, w, C]`` in its own data type; raise :class:`DataError` if values are no finite numbers."""
        pixels = np.asarray(self._array[top:bottom, left:right])
        try:
            return prepare(pixels[..., None] if pixels.ndim == 2 else pixels, None)
        except DataError as error:
            raise DataError(f"rows {top} to {bottom}, columns {left} to {right} of the image: {error}") from error

    def read(self, top: int, bottom: int, left: int, right: int) -> FloatArray:
        """See :class:`ImageSource`."""
        pixels = self.raw(top, bottom, left, right)
        if self._normalisation is not None:
            return apply(pixels, self._normalisation)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)

    def background(self) -> FloatArray:
        """See :class:`ImageSource`."""
        if self._background is None:
            windows = [self.read(*row, *column) for row in _windows(self.height) for column in _windows(self.width)]
            pixels = np.concatenate([window.reshape(self.channels, -1) for window in windows], axis=1)
            self._background = background_of(torch.from_numpy(pixels)[None, :, None])[0, :, 0, 0].numpy()
        return self._background

    def normalised(self, normalisation: Normalisation) -> ArraySource:
        """Return the same image with statistics applied."""
        return ArraySource(self._array, normalisation)

    def measure(self) -> Normalisation:
        """Measure the intensities of the image itself, on windows spread over it if it is large."""
        return measure_array(self.sample(_SAMPLE_SIDE)[:, None])

    def sample(self, side: int) -> npt.NDArray[Any]:
        """Return raw pixels ``[n, C]`` of 16 windows of this side that are spread over the image; of a small one all pixels."""
        rows, columns = _windows(self.height, side), _windows(self.width, side)
        return np.concatenate([self.raw(*row, *column).reshape(-1, self.channels) for row in rows for column in columns])


class ResampledSource(ImageSource):
    """An image at another pixel size, each part computed from just the pixels that it needs.

    Parameters
    ----------
    source
        The image.
    factors
        New over old number of pixels, along rows and columns.
    """

    def __init__(self, source: ImageSource, factors: tuple[float, float]) -> None:
        self._source = source
        self.channels = source.channels
        self.height, self.width = scaled_size(source.height, source.width, factors)

    def read(self, top: int, bottom: int, left: int, right: int) -> FloatArray:
        """See :class:`ImageSource`."""
        first_row, rows = resampling(self._source.height, self.height, top, bottom)
        first_column, columns = resampling(self._source.width, self.width, left, right)
        pixels = self._source.read(first_row, first_row + rows.shape[1], first_column, first_column + columns.shape[1])
        return np.ascontiguousarray(rows @ pixels @ columns.T)

    def background(self) -> FloatArray:
        """See :class:`ImageSource`."""
        return self._source.background()


def scaled_size(height: int, width: int, factors: tuple[float, float]) -> tuple[int, int]:
    """Return rows and columns of an image resampled by factors."""
    return max(1, round(height * factors[0])), max(1, round(width * factors[1]))


def resampling(size: int, new_size: int, start: int, stop: int) -> tuple[int, FloatArray]:
    """Return how pixels ``start .. stop`` of an axis resampled from ``size`` to ``new_size`` mix the pixels of the old axis.

    Linear interpolation where the axis grows; where it shrinks the same triangle, widened to cover the pixels left out, so
    that nothing aliases.

    Returns
    -------
    first, weights
        First old pixel, and float32 ``[stop - start, old pixels]`` whose rows sum to 1.
    """
    scale = size / new_size
    reach = max(1.0, scale)
    centres = (np.arange(start, stop) + 0.5) * scale - 0.5
    first = max(0, math.floor(centres[0] - reach))
    last = min(size - 1, math.ceil(centres[-1] + reach))
    weights = np.maximum(0, 1 - np.abs(np.arange(first, last + 1) - centres[:, None].clip(0, size - 1)) / reach)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _windows(size: int, side: int = _SAMPLE_SIDE) -> list[tuple[int, int]]:
    if size <= _SAMPLES * side:
        return [(0, size)]
    return [(start, start + side) for start in np.linspace(0, size - side, _SAMPLES).round().astype(int).tolist()]
