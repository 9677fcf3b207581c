"""Decoded images, as many of the latest as fit into a given number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from .fingerprint import fingerprint
from .records import ImageRecord

DEFAULT_BYTES = 1 << 30


class ImageCache:
    """Read images of a fixed list by index, keeping the latest in their own data type.

    Parameters
    ----------
    records
        The images.
    limit
        Bytes to keep at most; an image that is larger by itself is read each time.

    Attributes
    ----------
    fingerprints
        Of the images that were read so far, by index; see :func:`~napari_affmae.data.fingerprint.fingerprint`.
    """

    def __init__(self, records: Sequence[ImageRecord], limit: int = DEFAULT_BYTES) -> None:
        self._records = records
        self._limit = limit
        self._kept: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self.fingerprints: dict[int, str] = {}

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Return image ``index`` as ``[H, W, C]``; raises :class:`~napari_affmae.errors.DataError` as ``ImageRecord.read``."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        pixels = self._records[index].read()
        if index not in self.fingerprints:
            self.fingerprints[index] = fingerprint(pixels)
        if pixels.nbytes <= self._limit:
            self._kept[index] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels
