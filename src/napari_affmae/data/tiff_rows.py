"""TIFF files that are written row by row, for images that are too large to lie in memory as a whole."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tifffile

from ..card import PixelSize
from ..errors import StorageError
from .quiet import quiet

_MOST_IMAGEJ_BYTES = 4_000_000_000
"""ImageJ's own TIFF counts bytes in 32 bits."""


class TiffRows:
    """An uncompressed TIFF that Fiji and napari open with its pixel size: ImageJ's kind where it fits, else BigTIFF.

    Parameters
    ----------
    path
        File to make.
    shape
        ``(H, W)``, or ``(C, H, W)`` with one channel per class.
    dtype
        Data type of the pixels.
    pixel_size
        Size of a pixel, if known.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, pixel_size: PixelSize | None = None) -> None:
        self._shape = shape
        options = tiff_options(np.dtype(dtype), shape, pixel_size)
        with quiet():
            tifffile.imwrite(path, shape=shape, dtype=dtype, photometric="minisblack", **options)
            with tifffile.TiffFile(path) as made:
                self._start = int(made.pages.first.dataoffsets[0])
                self._dtype = np.dtype(dtype).newbyteorder(made.byteorder)
        self._file = path.open("r+b")

    def write(self, top: int, pixels: npt.NDArray[Any]) -> None:
        """Write rows ``[rows, W]`` or ``[C, rows, W]`` at a place."""
        height, width = self._shape[-2:]
        for place, plane in enumerate(pixels[None] if pixels.ndim == 2 else pixels):
            self._file.seek(self._start + (place * height + top) * width * self._dtype.itemsize)
            self._file.write(np.ascontiguousarray(plane, dtype=self._dtype).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def read_rows(path: Path, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return what :class:`TiffRows` wrote, read from the disk where it is looked at.

    Raises
    ------
    StorageError
        If it is something else by now.
    """
    try:
        with quiet():
            pixels: npt.NDArray[Any] = tifffile.memmap(path, mode="r")
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise StorageError(f"{path} cannot be read ({error}); pass --overwrite to make it anew") from error
    if pixels.shape != shape:
        raise StorageError(f"{path} has the shape {pixels.shape}, not {shape}; pass --overwrite to make it anew")
    return pixels


def tiff_options(dtype: np.dtype[Any], shape: tuple[int, ...], pixel_size: PixelSize | None) -> dict[str, Any]:
    """Return what tifffile must be told about an image ``(H, W)`` or ``(C, H, W)``: its kind, axes and pixel size."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    imagej = dtype in (np.uint8, np.uint16, np.float32) and size < _MOST_IMAGEJ_BYTES
    options: dict[str, Any] = {"imagej": imagej, "metadata": {"axes": "CYX"[-len(shape) :]}}
    if size >= _MOST_IMAGEJ_BYTES:
        options["bigtiff"] = True
    if pixel_size is not None:
        y, x = (side / 1e3 for side in pixel_size.nanometres())
        if imagej:
            options["metadata"]["unit"] = "um"
            options["resolution"] = (1 / x, 1 / y)
        else:
            options["resolution"] = (1e4 / x, 1e4 / y)
            options["resolutionunit"] = "CENTIMETER"
    return options
