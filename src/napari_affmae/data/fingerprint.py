"""What tells two images, or two sets of them, apart: hashes of pixel values, whatever file they come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from .parts import windows

_BAND = 1024
"""Rows that are hashed at a time."""

_MOST = 1 << 30
"""Bytes that are hashed as a whole; of more, windows are."""


def fingerprint(pixels: Any) -> str:
    """Return 16 hexadecimal digits that follow from the size, the type and the values of an image or of labels.

    A single channel counts as none: ``[H, W]`` and ``[H, W, 1]`` are the same image. Byte order and memory layout play no role.
    Of more than a gigabyte the values in 64 windows count, so that little is read of what is read part by part.
    """
    return _hashed(pixels, pixels.dtype.newbyteorder("<"))


def label_fingerprint(labels: npt.NDArray[Any]) -> str:
    """Return the :func:`fingerprint` of ids, whatever integer type holds them."""
    return _hashed(labels, np.dtype("<u4"))


def _hashed(pixels: Any, kind: np.dtype[Any]) -> str:
    """Hash values as numbers of a kind, band by band: a copy of a whole image may not fit into memory."""
    shape = pixels.shape[:2] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels.shape
    digest = blake2b(repr((shape, kind.str)).encode(), digest_size=8)
    for part in windows(pixels) if math.prod(shape) * kind.itemsize > _MOST else _bands(pixels):
        digest.update(np.ascontiguousarray(part, kind).data)
    return digest.hexdigest()


def _bands(pixels: Any) -> Iterator[Any]:
    for top in range(0, pixels.shape[0], _BAND):
        yield pixels[top : top + _BAND, :]


def summary(hashes: Iterable[str], count: int) -> dict[str, Any]:
    """Return what a model's history keeps about a set of images: how many, which were hashed, one hash for all, each hash.

    Parameters
    ----------
    hashes
        Fingerprints, in any order; those of equal images count once.
    count
        Number of images, hashed or not.
    """
    each = sorted(set(hashes))
    together = blake2b("".join(each).encode(), digest_size=16).hexdigest()
    return {"count": count, "digest": together, "hashes": each}
