"""TIFF files: stacks, channels, 16 bits, floats, and the pixel size in its several dialects."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import tifffile

from ..card import PixelSize
from ..errors import DataError
from .image_file import broken_file_as_data_error
from .pixel_size import pixel_size, pixel_size_from_resolution

Pixels = npt.NDArray[Any]

PRINTERS = {"inch": 2.54, "cm": 1.0}
"""Units of ImageJ that come from the resolution of a printer or screen, in centimetres."""


class TiffFile:
    """An open TIFF file. Every plane along time, depth or an unnamed axis is a page; a channel axis stays with its page."""

    def __init__(self, path: Path) -> None:
        self._tiff = tifffile.TiffFile(path)
        try:
            self.pixel_size = _stated_pixel_size(self._tiff)
            if any(series.is_multifile for series in self._tiff.series):
                # Each of several files describes the stack that they make together. Its planes are read from the file that
                # holds them, or every file would hold all of them.
                self._tiff.close()
                self._tiff = tifffile.TiffFile(path, is_ome=False)
            self._planes = [(series, plane) for series in self._tiff.series for plane in range(_plane_count(series))]
            # What a cut file has lost is one more page, which cannot be read.
            self.pages = len(self._planes) + _is_cut(self._tiff)
        except BaseException:
            self._tiff.close()
            raise

    def reopen(self) -> None:
        """Go on with a file that was closed and has not changed since."""
        self._tiff.filehandle.open()

    def read(self, page: int) -> Pixels:
        """Return page ``page`` as ``[H, W, C]`` in native byte order."""
        if not 0 <= page < self.pages:
            raise DataError(f"page {page} was asked for, but the file has {self.pages}")
        if page == len(self._planes):
            raise DataError("truncated: the file ends before this page, and whatever follows it")
        with broken_file_as_data_error():
            series, plane = self._planes[page]
            pixels = self._plane(series, plane)
            return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))

    def _plane(self, series: tifffile.TiffPageSeries, plane: int) -> Pixels:
        """Read one plane, touching only the pages that hold it where the file allows."""
        axes, shape = series.axes, series.shape
        outer = [i for i, axis in enumerate(axes) if axis not in "YXSC"]
        where = dict(zip(outer, np.unravel_index(plane, [shape[i] for i in outer]), strict=True)) if outer else {}
        selection = tuple(int(where[i]) if i in where else slice(None) for i in range(len(axes)))
        kept = "".join(axis for i, axis in enumerate(axes) if i not in where)
        if series.dataoffset is not None:
            self._check_length(series.dataoffset + math.prod(shape) * series.dtype.itemsize)
            whole = self._tiff.filehandle.memmap_array(
                self._tiff.byteorder + series.dtype.char, shape, offset=series.dataoffset
            )
            pixels = np.array(whole[selection])
        else:
            keyframe = series.keyframe
            leading = len(shape) - len(keyframe.shape)
            if shape[leading:] != keyframe.shape or math.prod(shape[:leading]) != len(series.pages):
                pixels = self._decode(series, None)[selection]
            else:
                numbers = np.arange(len(series.pages)).reshape(shape[:leading])[selection[:leading]]
                parts = [self._decode(series, int(number)) for number in numbers.ravel()]
                pixels = np.stack(parts).reshape(*numbers.shape, *keyframe.shape)[
                    (slice(None),) * numbers.ndim + selection[leading:]
                ]
        return _channels_last(pixels, kept, series.keyframe)

    def _decode(self, series: tifffile.TiffPageSeries, number: int | None) -> Pixels:
        pages = series.pages if number is None else [series.pages[number]]
        for page in pages:
            if page is not None:
                self._check_length(max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0))
        try:
            return np.asarray(self._tiff.asarray(key=number, series=series))
        except (ImportError, ValueError) as error:
            if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                raise
            name = tifffile.COMPRESSION(series.keyframe.compression).name
            raise DataError(f"compression {name} cannot be read: save the image without compression, or as LZW") from error

    def _check_length(self, end: int) -> None:
        size = self._tiff.filehandle.size
        if end > size:
            raise DataError(f"truncated: the pixels should reach byte {end}, but the file ends at {size}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tiff.close()


def _is_cut(tiff: tifffile.TiffFile) -> bool:
    """Whether the last page that is there points to one behind the end of the file."""
    place, form = tiff.pages.next_page_offset, tiff.tiff
    if not place:
        return False
    tiff.filehandle.seek(place)
    pointer = tiff.filehandle.read(form.offsetsize)
    return len(pointer) < form.offsetsize or struct.unpack(form.offsetformat, pointer)[0] >= tiff.filehandle.size


def _plane_count(series: tifffile.TiffPageSeries) -> int:
    if "Y" not in series.axes or "X" not in series.axes:
        raise DataError(f"axes {series.axes} hold no image; expected rows (Y) and columns (X)")
    return math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXSC")


def _channels_last(pixels: Pixels, axes: str, keyframe: Any) -> Pixels:
    """Reorder a plane with axes Y, X and maybe C and S to ``[H, W, C]``, without alpha."""
    order = [axes.index(axis) for axis in "YXCS" if axis in axes]
    pixels = pixels.transpose(order)
    if "S" in axes and _has_alpha(keyframe, pixels.shape[-1]):
        pixels = pixels[..., :-1]
    return pixels.reshape(*pixels.shape[:2], -1)


def _has_alpha(keyframe: Any, samples: int) -> bool:
    colors = 3 if keyframe.photometric == tifffile.PHOTOMETRIC.RGB else 1
    return samples == colors + 1 and samples in (2, 4) and (samples == 4 or any(keyframe.extrasamples))


def _stated_pixel_size(tiff: tifffile.TiffFile) -> PixelSize | None:
    """Pixel size from OME-XML, a microscope's own tags, ImageJ, or the plain resolution tags, in this order."""
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_pixel_size(tiff.ome_metadata)
    if tiff.is_fei or tiff.is_sem:
        return _microscope_pixel_size(tiff)
    page = tiff.pages.first
    per_x, per_y = (_ratio(page.tags.get(name)) for name in ("XResolution", "YResolution"))
    if not (per_x and per_y):
        return None
    tag = page.tags.get("ResolutionUnit")
    centimetre = {2: 2.54, 3: 1.0}.get(int(tag.value)) if tag is not None else None
    if tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", ""))
        if unit and unit not in PRINTERS:
            return pixel_size(1 / per_y, 1 / per_x, unit)
        centimetre = PRINTERS.get(unit, centimetre)
    return pixel_size_from_resolution(per_y, per_x, centimetre) if centimetre else None


def _microscope_pixel_size(tiff: tifffile.TiffFile) -> PixelSize | None:
    """Pixel size from the tags of Thermo Fisher (FEI) and Zeiss electron microscopes."""
    if tiff.is_fei:
        scan = (tiff.fei_metadata or {}).get("Scan", {})
        sides = scan.get("PixelHeight"), scan.get("PixelWidth")
        return pixel_size(*sides, "m") if all(isinstance(side, float) for side in sides) else None
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = (tiff.sem_metadata or {}).get(key, ())
        if len(entry) == 3:
            return pixel_size(entry[1], entry[1], str(entry[2]))
    return None


def _ratio(tag: Any) -> float:
    """Value of a rational tag, 0 if it is missing or senseless."""
    if tag is None or not isinstance(tag.value, tuple) or len(tag.value) != 2 or not tag.value[1]:
        return 0.0
    return float(tag.value[0]) / float(tag.value[1])


def _ome_pixel_size(text: str) -> PixelSize | None:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        if element.tag.rsplit("}", 1)[-1] == "Pixels":
            y, x = element.get("PhysicalSizeY"), element.get("PhysicalSizeX")
            unit = element.get("PhysicalSizeXUnit", "µm")
            if y and x and unit == element.get("PhysicalSizeYUnit", "µm"):
                return pixel_size(_number(y), _number(x), unit)
    return None


def _number(text: str) -> float:
    """Return a number, NaN for what is none, such as ``0,325``."""
    try:
        return float(text)
    except ValueError:
        return math.nan
