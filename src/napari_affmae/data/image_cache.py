"""Images by index: decoded ones are kept, as many as fit into a given number of bytes; larger ones are read part by part."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ..errors import DataError
from .crops import crop
from .fingerprint import fingerprint
from .lazy_plane import LazyPlane
from .records import MOST_BYTES, ImageRecord, lazy_plane, prepare


class ImageCache:
    """Read images of a fixed list by index, keeping the latest in their own data type.

    Parameters
    ----------
    records
        The images.
    limit
        Bytes to keep at most. Of an image that is larger by itself only what is asked for is read, if it can be read part by
        part; otherwise it is kept alone, until another image is asked for.

    Attributes
    ----------
    fingerprints
        Of the images that were read so far, by index; see :func:`~napari_affmae.data.fingerprint.fingerprint`.
    """

    def __init__(self, records: Sequence[ImageRecord], limit: int = MOST_BYTES) -> None:
        self._records = records
        self._limit = limit
        self._kept: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._in_parts: dict[int, LazyPlane] = {}
        self._bytes = 0
        self.fingerprints: dict[int, str] = {}

    def __getitem__(self, index: int) -> npt.NDArray[Any] | LazyPlane:
        """Return image ``index`` as ``[H, W, C]``, to be sliced by rows and columns.

        Raises
        ------
        DataError
            As ``ImageRecord.read`` and ``ImageRecord.open``.
        """
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        if index in self._in_parts:
            return self._in_parts[index]
        record = self._records[index]
        size = record.nbytes
        if size > self._limit and lazy_plane(record) is not None:
            plane: LazyPlane = record.open()
            self.fingerprints[index] = fingerprint(plane)
            self._in_parts[index] = plane
            return plane
        # Before the image is read: two that are larger than the limit may be more than memory holds.
        while self._kept and self._bytes + size > self._limit:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        pixels = record.read()
        if index not in self.fingerprints:
            self.fingerprints[index] = fingerprint(pixels)
        self._kept[index] = pixels
        self._bytes += pixels.nbytes
        return pixels

    def crop(self, index: int, row: int, column: int, tile: int) -> npt.NDArray[Any]:
        """Return ``[tile, tile, C]`` of an image as :func:`~napari_affmae.data.crops.crop` does.

        Raises
        ------
        DataError
            If it cannot be read, or pixels of the crop are NaN or infinite.
        """
        image = self[index]
        if not isinstance(image, LazyPlane):
            return crop(image, row, column, tile)
        try:
            return prepare(crop(image, row, column, tile), None)
        except DataError as error:
            raise DataError(f"{self._records[index].name}: {error}") from error

    def order(self, indices: Sequence[int]) -> list[int]:
        """Return the places of ``indices`` in the order in which images are read as rarely as can be: each once at most."""
        return sorted(range(len(indices)), key=lambda place: (indices[place] not in self._kept, indices[place]))
