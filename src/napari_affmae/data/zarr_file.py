"""Zarr arrays and OME-Zarr images: planes that are read part by part, of any size.

OME-Zarr 0.4 and 0.5 say what their axes are (https://ngff.openmicroscopy.org/). Of a plain array the last two axes are rows and
columns, unless the names of its dimensions say otherwise or a last axis of 3 or 4 can only be colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import BaseZarrError

from ..card import PixelSize
from ..errors import DataError
from ..words import some_names
from .lazy_plane import LazyPlane
from .pixel_size import pixel_size

_SEVERAL = "bioformats2raw.layout"
"""Marks the root of what may be several images, https://ngff.openmicroscopy.org/0.5/#bf2raw."""

_MARKS = ("zarr.json", ".zarray", ".zgroup")
ZarrArray: TypeAlias = zarr.Array[Any]

_COLORS = (3, 4)
_AXES = frozenset("tczyx")


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


class ZarrFile:
    """An open zarr image. Every plane along time, depth or an unnamed axis is a page; a channel axis stays with its page."""

    def __init__(self, path: Path) -> None:
        with _zarr_errors():
            array, axes, size, coarser = _open(path)
        self._array = array
        self._coarser = coarser
        self._axes = axes
        self.pixel_size = size
        self._outer = [side for side, axis in zip(array.shape, axes, strict=True) if axis not in "yxc"]
        self.pages = math.prod(self._outer)

    def plane(self, page: int) -> LazyPlane:
        """Return a page as something that is read part by part."""
        if not 0 <= page < self.pages:
            raise DataError(f"page {page} was asked for, but the file has {self.pages}")
        where = iter(np.unravel_index(page, self._outer) if self._outer else ())
        index = tuple(axis if axis in "yxc" else int(next(where)) for axis in self._axes)
        return LazyPlane(_ReadSafely(self._array), index)

    def scales(self, page: int) -> list[LazyPlane]:
        """Return a page at every scale that is stored, finest first."""
        finest = self.plane(page)
        return [finest, *(LazyPlane(_ReadSafely(array), finest.index) for array in self._coarser)]

    def read(self, page: int) -> npt.NDArray[Any]:
        """Return page ``page`` as ``[H, W, C]``."""
        return np.ascontiguousarray(self.plane(page)[:, :])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class _ReadSafely:
    """A zarr array whose broken chunks are data errors, not errors of whoever happens to be writing at that moment."""

    def __init__(self, array: ZarrArray) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: Any) -> Any:
        with _zarr_errors():
            return self._array[key]


@contextmanager
def _zarr_errors() -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (BaseZarrError, OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"damaged or not a zarr image: {words[:200]}") from error


def _open(path: Path) -> tuple[ZarrArray, str, PixelSize | None, list[ZarrArray]]:
    """Return the finest array, a letter for each axis, the pixel size, and the coarser arrays."""
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return node, _axes_of_array(node), None, []
    attributes = _attributes(node)
    if _SEVERAL in attributes:
        node = _only_image(node, path.name)
        attributes = _attributes(node)
    multiscales = attributes.get("multiscales")
    if not multiscales:
        raise DataError("a zarr group that says nothing of images; give the array inside it, or write it as OME-Zarr")
    image = multiscales[0]
    finest = image["datasets"][0]
    array = node[finest["path"]]
    if not isinstance(array, zarr.Array):
        raise DataError(f"its finest level {finest['path']!r} is no array")
    axes = image.get("axes") or [*"tczyx"][-array.ndim :]
    names = [axis["name"] if isinstance(axis, Mapping) else str(axis) for axis in axes]
    coarser = [node[dataset["path"]] for dataset in image["datasets"][1:]]
    # Scales that shrink time or depth as well have other pages, and are of no use here.
    kept = [level for level in coarser if isinstance(level, zarr.Array) and level.shape[:-2] == array.shape[:-2]]
    return array, _checked(names, array), _pixel_size(axes, names, finest), kept


def _attributes(group: zarr.Group) -> dict[str, Any]:
    attributes: dict[str, Any] = dict(group.attrs.asdict())
    return attributes.get("ome") or attributes


def _only_image(root: zarr.Group, name: str) -> zarr.Group:
    """Return the image of a folder that bioformats2raw made, where images are numbered, even a single one."""
    numbers = sorted((key for key in root.group_keys() if key.isdigit()), key=int)
    if len(numbers) > 1:
        raise DataError(f"it holds {len(numbers)} images, {some_names(numbers)}; give one of them, as {name}/{numbers[0]}")
    only = root.get("0")
    if not isinstance(only, zarr.Group):
        raise DataError("made by bioformats2raw, but it holds no image 0; write it anew")
    return only


def _axes_of_array(array: ZarrArray) -> str:
    names = [str(name).lower() for name in getattr(array.metadata, "dimension_names", None) or ()]
    if len(names) == array.ndim and {"y", "x"} <= set(names):
        return _checked(names, array)
    if array.ndim < 2:
        raise DataError(f"expected at least rows and columns, but its shape is {array.shape}")
    colors = array.ndim >= 3 and array.shape[-1] in _COLORS
    return "." * (array.ndim - 2 - colors) + "yx" + "c" * colors


def _checked(names: Sequence[str], array: ZarrArray) -> str:
    """Return one letter per axis; axes of other names become ``"."``, of which every place is a page."""
    axes = "".join(name if name in _AXES else "." for name in names)
    if len(axes) != array.ndim or axes.count("y") != 1 or axes.count("x") != 1 or axes.count("c") > 1:
        raise DataError(
            f"axes {', '.join(names)} do not fit an array of shape {array.shape}; expected rows (y) and columns (x)"
        )
    return axes


def _pixel_size(axes: Sequence[Any], names: Sequence[str], dataset: Mapping[str, Any]) -> PixelSize | None:
    scales = [step["scale"] for step in dataset.get("coordinateTransformations", ()) if step.get("type") == "scale"]
    units = {axis["name"]: axis.get("unit") for axis in axes if isinstance(axis, Mapping)}
    if not scales or len(scales[0]) != len(names) or not units.get("y") or units.get("y") != units.get("x"):
        return None
    return pixel_size(float(scales[0][names.index("y")]), float(scales[0][names.index("x")]), str(units["y"]))
