"""What is known about images before their pixels are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import PixelSize
from ..errors import DataError
from ..words import count
from .image_file import open_image_file
from .lazy_plane import LazyPlane
from .pixel_size import same_pixel_size
from .plane_names import split_name
from .zarr_file import ZarrFile, is_zarr

MOST_BYTES = 1 << 30
"""Of an image that is larger only what is asked for is read, if it can be read part by part."""


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why, in words for the user."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImageRecord:
    """One image, in a file or in memory.

    Attributes
    ----------
    name
        Unique in its collection: the path relative to the scanned folder with forward slashes, pages as ``stack.tif[3]``.
    height, width, channels
        Size in pixels and number of channels after the choice of channels.
    dtype
        Name of the data type of the pixels, for example ``"uint16"``.
    pixel_size
        Size of a pixel, if stated.
    path, page
        Where the pixels are; ``page`` is None in a file of one page, ``path`` is None for an image in memory.
    chosen_channels
        Indices of the channels to keep, or None for all.
    array
        The pixels of an image in memory or of an open layer: ``[H, W]`` or ``[H, W, C]``, numpy, dask or zarr, or a
        :class:`~napari_affmae.data.lazy_plane.LazyPlane` of one.
    fingerprint
        Of the pixels when the image was found, see :func:`~napari_affmae.data.fingerprint.fingerprint`; None if only its
        metadata were read.
    """

    name: str
    height: int
    width: int
    channels: int
    dtype: str
    pixel_size: PixelSize | None = None
    path: Path | None = None
    page: int | None = None
    chosen_channels: tuple[int, ...] | None = None
    array: Any = field(default=None, repr=False, compare=False)
    fingerprint: str | None = field(default=None, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels in memory."""
        return self.height * self.width * self.channels * np.dtype(self.dtype).itemsize

    def read(self) -> npt.NDArray[Any]:
        """Return the pixels as ``[H, W, C]`` in their own data type, all of them finite.

        Raises
        ------
        DataError
            If the file vanished, broke or changed its size since it was scanned, or if pixels are NaN or infinite.
        """
        try:
            if self.path is None:
                pixels = np.asarray(self.array)
                pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            else:
                with open_image_file(self.path) as file:
                    pixels = file.read(self.page or 0)
            pixels = prepare(pixels, self.chosen_channels)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error
        self._check_shape(pixels.shape)
        return pixels

    def open(self) -> Any:
        """Return the image ``[H, W, C]`` as something to be sliced by rows and columns, read part by part where possible.

        Raises
        ------
        DataError
            As :meth:`read`; NaN and infinite values come to light when they are read.
        """
        plane = lazy_plane(self)
        if plane is None:
            return self.read()
        self._check_shape(plane.shape)
        return plane

    def load(self) -> npt.NDArray[Any] | LazyPlane:
        """Return the image ``[H, W, C]`` to be sliced by rows and columns: read, or opened if it is larger than a gigabyte.

        Raises
        ------
        DataError
            As :meth:`read` and :meth:`open`.
        """
        pixels: npt.NDArray[Any] | LazyPlane = self.open() if self.nbytes > MOST_BYTES else self.read()
        return pixels

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != (self.height, self.width, self.channels):
            raise DataError(
                f"{self.name}: expected {self.height} × {self.width} pixels in {self.channels} channels as found before, "
                f"but it is now {' × '.join(map(str, shape))}; scan the images again"
            )


def lazy_plane(record: ImageRecord) -> LazyPlane | None:
    """Return an image that can be read part by part, channels chosen, or None if it is decoded as a whole.

    Raises
    ------
    DataError
        If a zarr folder vanished or broke, or has no such channel.
    """
    if isinstance(record.array, LazyPlane):
        plane = record.array
    elif record.path is not None and is_zarr(record.path):
        try:
            plane = ZarrFile(record.path).plane(record.page or 0)
        except DataError as error:
            raise DataError(f"{record.name}: {error}") from error
    else:
        return None
    if record.chosen_channels is None:
        return plane
    check_chosen(record.chosen_channels, plane.shape[2])
    return plane.with_channels(record.chosen_channels)


def prepare(pixels: npt.NDArray[Any], chosen_channels: tuple[int, ...] | None) -> npt.NDArray[Any]:
    """Keep the chosen channels of ``[H, W, C]`` and check that the values are usable numbers.

    Raises
    ------
    DataError
        If a channel is not there, the image has no pixels, values are no real numbers, or some are NaN or infinite.
    """
    if not pixels.size:
        raise DataError(f"no pixels: its size is {' × '.join(map(str, pixels.shape[:2]))}")
    if chosen_channels is not None:
        check_chosen(chosen_channels, pixels.shape[2])
        pixels = np.ascontiguousarray(pixels[..., list(chosen_channels)])
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8)
    if pixels.dtype.kind not in "uif":
        raise DataError(f"values of type {pixels.dtype} are not intensities; expected integers or floating point")
    if pixels.dtype.kind == "f":
        bad = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
        if bad:
            raise DataError(f"{bad} of {pixels.size} values are NaN or infinite; replace them or leave the image out")
    return pixels


NO_CHANNEL = "it has no channel"
"""How the reason begins for which an image without a channel that was chosen is skipped."""


def check_chosen(chosen_channels: tuple[int, ...], channels: int) -> None:
    """Raise :class:`DataError` if a chosen channel is not among so many."""
    missing = [channel for channel in chosen_channels if not 0 <= channel < channels]
    if missing:
        there = "only channel 0" if channels == 1 else f"channels 0 to {channels - 1}"
        raise DataError(f"{NO_CHANNEL} {missing[0]}, but {there}")


def of_one_channel_count(records: Sequence[ImageRecord]) -> tuple[int, list[Skipped]]:
    """Return the number of channels that most images have (of equally many, the first one's), and the images with another."""
    (majority, most), *others = Counter(record.channels for record in records).most_common()
    if others and others[0][1] == most:
        why = f"the images that are taken have {count(majority, 'channel')}, as many others have"
    else:
        why = f"most images have {count(majority, 'channel')}"
    # Of one channel there is nothing to choose.
    do = "choose channels that all have" if majority > 1 else "move it to another folder or convert it to grey"
    return majority, [
        Skipped(record.name, f"it has {count(record.channels, 'channel')}, but {why}; {do}")
        for record in records
        if record.channels != majority
    ]


@dataclass(frozen=True)
class ImageCollection:
    """Images that can be used together, and those that cannot.

    Attributes
    ----------
    records
        At least one image, all with the same number of channels.
    skipped
        Images that were left out, with reasons.
    ignored
        Number of files in the folder that are no images: hidden, or of another kind.
    """

    records: tuple[ImageRecord, ...]
    skipped: tuple[Skipped, ...] = ()
    ignored: int = 0

    def __len__(self) -> int:
        return len(self.records)

    @property
    def channels(self) -> int:
        """Number of channels of every image."""
        return self.records[0].channels

    @property
    def pixel_size(self) -> PixelSize | None:
        """The pixel size, if the images that state one agree."""
        stated = [record.pixel_size for record in self.records if record.pixel_size is not None]
        if not stated or not all(same_pixel_size(stated[0], other) for other in stated[1:]):
            return None
        return stated[0]

    @property
    def contents(self) -> str:
        """How many images and stacks there are, for people: ``"3 images and 1 stack of 5 slices"``."""
        slices = Counter(stack for stack, index in (split_name(record.name) for record in self.records) if index)
        images = len(self) - slices.total()
        of = " of " if len(slices) == 1 else ", "
        stacks = f"{count(len(slices), 'stack')}{of}{count(slices.total(), 'slice')}"
        return " and ".join([count(images, "image")] * bool(images) + [stacks] * bool(slices))

    def describe(self) -> str:
        """Say in one or two sentences what is here: count, sizes, channels, types, pixel size, what was skipped."""
        sizes = Counter(f"{record.height} × {record.width}" for record in self.records)
        shown = ", ".join(f"{many} of {size}" if len(sizes) > 1 else size for size, many in sizes.most_common(3))
        more = f" and {count(len(sizes) - 3, 'more size')}" if len(sizes) > 3 else ""
        types = ", ".join(sorted({record.dtype for record in self.records}))
        parts = [
            f"{self.contents}, {shown} pixels{more}",
            f"{self.channels} {'channel' if self.channels == 1 else 'channels'}, {types}",
            self._pixel_size_in_words(),
        ]
        if self.skipped:
            parts.append(f"{len(self.skipped)} skipped")
        if self.ignored:
            parts.append(f"{self.ignored} other {'file' if self.ignored == 1 else 'files'} ignored")
        return "; ".join(parts)

    def _pixel_size_in_words(self) -> str:
        size = self.pixel_size
        if size is None:
            stated = any(record.pixel_size is not None for record in self.records)
            return "pixel sizes differ" if stated else "pixel size not stated"
        return f"{size.in_words()} per pixel"
