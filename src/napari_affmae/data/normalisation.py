"""Robust intensity statistics: measured once on a collection, saved with the model, applied to every image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import Normalisation
from ..errors import DataError
from .lazy_plane import LazyPlane
from .parts import WINDOWS, windows
from .records import ImageCollection, prepare

PERCENTILES = (0.1, 99.9)
"""Values beyond these percentiles are clipped: hot pixels and scratches say nothing about contrast."""

PIXELS_PER_IMAGE = 65_536


def measure(collection: ImageCollection, sample: int = 64, seed: int = 0) -> Normalisation:
    """Measure a collection on up to ``sample`` images and 65 536 pixels of each; the same seed gives the same figures.

    Of an image that is too large to be read whole, the pixels lie in windows that are spread over it.

    Raises
    ------
    DataError
        If no sampled image can be read any more, or every pixel has the same value.
    """
    rng = np.random.default_rng(seed)
    count = min(sample, len(collection))
    chosen = np.sort(rng.choice(len(collection), count, replace=False))
    values = []
    failure: DataError | None = None
    for index in chosen:
        try:
            values.append(_some_pixels(collection.records[index].load(), rng))
        except DataError as error:
            failure = error
    if not values:
        raise DataError(f"none of {count} sampled images can be read any more, the last because {failure}") from failure
    return _statistics(np.concatenate(values))


def measure_array(image: npt.NDArray[Any] | LazyPlane) -> Normalisation:
    """Measure one image ``[H, W]`` or ``[H, W, C]`` by itself, for a model that was saved without statistics.

    Raises
    ------
    DataError
        If the image is constant or holds NaN or infinite values.
    """
    pixels = image[..., None] if isinstance(image, np.ndarray) and image.ndim == 2 else image
    return _statistics(_some_pixels(pixels, np.random.default_rng(0)))


def apply(image: npt.NDArray[Any], normalisation: Normalisation) -> npt.NDArray[np.float32]:
    """Clip and standardise ``[H, W, C]`` (or ``[H, W]`` for one channel) of any type to float32 ``[C, H, W]``.

    Raises
    ------
    DataError
        If the number of channels is not that of the statistics.
    """
    pixels = image[..., None] if image.ndim == 2 else image
    channels = len(normalisation.mean)
    if pixels.ndim != 3 or pixels.shape[2] != channels:
        raise DataError(
            f"expected an image with {channels} channel(s) in its last axis as the statistics have, "
            f"got shape {tuple(image.shape)}; choose the channels that the model was trained on"
        )
    out = np.empty((channels, *pixels.shape[:2]), np.float32)
    # Wide integers and doubles may be far from zero: subtract before rounding to float32.
    working = np.float32 if pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32 else np.float64
    for channel in range(channels):
        plane = pixels[..., channel].astype(working)
        np.clip(plane, normalisation.low[channel], normalisation.high[channel], out=plane)
        np.subtract(plane, normalisation.mean[channel], out=plane)
        np.divide(plane, normalisation.std[channel], out=out[channel], casting="same_kind")
    return out


def clipped_part(values: npt.NDArray[Any], normalisation: Normalisation) -> tuple[float, int]:
    """Return the largest part of pixels ``[n, C]`` that :func:`apply` clips in a channel, and this channel.

    Values that are all the same lose nothing.
    """
    outside = (values < normalisation.low) | (values > normalisation.high)
    parts = np.where(values.min(axis=0) < values.max(axis=0), outside.mean(axis=0), 0.0)
    channel = int(parts.argmax())
    return float(parts[channel]), channel


def _some_pixels(
    image: npt.NDArray[Any] | LazyPlane, rng: np.random.Generator, most: int = PIXELS_PER_IMAGE
) -> npt.NDArray[np.float64]:
    """Return up to ``most`` pixels ``[n, C]`` at random places, of what is read part by part in its windows."""
    if isinstance(image, LazyPlane):
        return np.concatenate([_some_pixels(prepare(window, None), rng, most // WINDOWS) for window in windows(image)])
    flat = image.reshape(-1, image.shape[-1])
    if len(flat) > most:
        flat = flat[rng.integers(0, len(flat), most)]
    return flat.astype(np.float64)


def _statistics(values: npt.NDArray[np.float64]) -> Normalisation:
    if not np.isfinite(values).all():
        raise DataError("the image holds NaN or infinite values; replace them first")
    least, most = values.min(axis=0), values.max(axis=0)
    if (least == most).all():
        raise DataError(f"every pixel has the value {least[0]:g}; there is no contrast to learn from, choose other images")
    low, high = np.percentile(values, PERCENTILES, axis=0)
    # A mask with few bright pixels has equal percentiles; its contrast lies in the extremes.
    flat = low == high
    low, high = np.where(flat, least, low), np.where(flat, most, high)
    clipped = np.clip(values, low, high)
    std = clipped.std(axis=0)
    # A dead channel beside live ones becomes zero.
    std = np.where(std > 0, std, 1.0)
    return Normalisation(
        low=tuple(low.tolist()), high=tuple(high.tolist()), mean=tuple(clipped.mean(axis=0).tolist()), std=tuple(std.tolist())
    )
