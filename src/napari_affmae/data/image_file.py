"""Decode one image file: PNG and JPEG with Pillow, TIFF with tifffile, zarr folders.

An open file has ``pages`` images; each is read as ``[H, W, C]`` in its own data type, alpha dropped. Whatever is wrong with
a file becomes a :class:`~napari_affmae.errors.DataError` that says what; the caller adds the name.
"""

from __future__ import annotations

import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import ImageFile as PillowFile

from ..card import PixelSize
from ..errors import DataError
from .pixel_size import pixel_size_from_resolution
from .quiet import quiet
from .zarr_file import ZarrFile, is_zarr

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
SUFFIXES = PICTURE_SUFFIXES | TIFF_SUFFIXES
"""Suffixes of files that are read, in lower case; any case is accepted."""

KINDS = "PNG, JPEG, TIFF or OME-Zarr"
"""The same for people, with the folders that are read as one image."""

_BROKEN_FILE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip
# Format libraries meet a broken file with whatever error the broken field happens to cause.

Pixels = npt.NDArray[Any]


class ImageFile(Protocol):
    """An open image file of one or more pages."""

    pages: int
    pixel_size: PixelSize | None

    def read(self, page: int) -> Pixels:
        """Return page ``page`` as ``[H, W, C]``."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def is_image_name(name: str) -> bool:
    """Whether the name has one of the suffixes that are read."""
    return Path(name).suffix.lower() in SUFFIXES


def open_image_file(path: Path, ids: bool = False) -> ImageFile:
    """Open an image file.

    Parameters
    ----------
    path
        The file; its suffix decides who reads it.
    ids
        True for label images: palette indices are kept as they are, not turned into colours.

    Raises
    ------
    DataError
        If the file is missing, empty, broken, or of an unknown kind.
    """
    suffix = path.suffix.lower()
    if is_zarr(path):
        return ZarrFile(path)
    with broken_file_as_data_error():
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError("not a regular file")
        if status.st_size == 0:
            raise DataError("the file is empty (0 bytes)")
        if suffix in TIFF_SUFFIXES:
            from .tiff_stacks import open_tiff

            return open_tiff(path)
        if suffix in PICTURE_SUFFIXES:
            return PictureFile(path, ids)
    raise DataError(f"{suffix or 'no suffix'} is not a kind of file that is read; expected {', '.join(sorted(SUFFIXES))}")


@contextmanager
def broken_file_as_data_error() -> Iterator[None]:
    """Turn what a format library raises into a :class:`DataError` in plain words, and keep the library quiet."""
    try:
        with quiet():
            yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError("the file is not there (any more)") from error
    except PermissionError as error:
        raise DataError("no permission to read the file") from error
    except MemoryError as error:
        raise DataError("the image does not fit into memory") from error
    except Image.DecompressionBombError as error:
        raise DataError("too many pixels for a PNG or JPEG reader; save it as TIFF instead") from error
    except _BROKEN_FILE as error:
        words = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify image file" in words:
            words = "the content is no image of this kind"
        raise DataError(f"damaged or not an image: {words[:200]}") from error


class PictureFile:
    """A PNG or JPEG file: one page.

    PNG of 16 bits keeps them, also where Pillow would read colours as 8 bits.
    """

    pages = 1

    def __init__(self, path: Path, ids: bool) -> None:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            self.pixel_size = _stated_pixel_size(picture)
            if _loses_bits(picture):
                import imagecodecs  # few files need it, and it takes a tenth of a second

                self._pixels = _without_alpha(imagecodecs.png_decode(path.read_bytes()))
                return
            picture.load()
            self._pixels = _as_pixels(picture, ids)

    def read(self, page: int) -> Pixels:
        """Return the picture as ``[H, W, C]``."""
        if page != 0:
            raise DataError(f"page {page} was asked for, but the file has a single page")
        return self._pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


def _loses_bits(picture: PillowFile.ImageFile) -> bool:
    """Whether Pillow would read 16 bits per value, as they stand in the file, as 8."""
    return any("16" in str(tile[3]) for tile in picture.tile) and not picture.mode.startswith("I")


def _without_alpha(pixels: Pixels) -> Pixels:
    """Return ``[H, W, C]`` of what may have an alpha as its second or fourth channel."""
    return pixels[..., : {2: 1, 4: 3}.get(pixels.shape[-1])]


def _as_pixels(picture: Image.Image, ids: bool) -> Pixels:
    mode = picture.mode
    if mode == "1":
        pixels: Pixels = np.asarray(picture).astype(np.uint8)
    elif mode in ("L", "I", "F", "RGB") or mode.startswith("I;16") or (ids and mode == "P"):
        pixels = np.array(picture)
    elif mode in ("LA", "La"):
        pixels = np.array(picture)[..., :1]
    else:  # palettes, RGBA, CMYK and the rest
        pixels = np.array(picture.convert("RGBA" if mode in ("P", "PA") else "RGB"))[..., :3]
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _stated_pixel_size(picture: Image.Image) -> PixelSize | None:
    dpi = picture.info.get("dpi")
    if not (isinstance(dpi, tuple) and len(dpi) == 2):
        return None
    return pixel_size_from_resolution(float(dpi[1]), float(dpi[0]), 2.54)
