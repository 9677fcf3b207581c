"""The files that segmenting an image makes: what they are called, and how they are written row by row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo, PixelSize
from ..config import OutputFormat
from .plane_names import split_name
from .stem import without_suffix
from .tiff_rows import TiffRows
from .write import placing, write_labels_tiff
from .write_ome_zarr import OmeZarrRows

SUFFIXES: dict[OutputFormat, str] = {"tiff": ".tif", "ome-zarr": ".ome.zarr"}


@dataclass(frozen=True)
class Outputs:
    """Where the results for one image go. An OME-Zarr holds all of them.

    Attributes
    ----------
    labels
        File of the ids, or the OME-Zarr folder.
    probabilities, instances
        Files beside it, or None.
    """

    labels: Path
    probabilities: Path | None = None
    instances: Path | None = None

    def paths(self) -> list[Path]:
        """Return everything that will be written."""
        return [path for path in (self.labels, self.probabilities, self.instances) if path is not None]


def name_outputs(
    out: Path, names: Sequence[str], format: OutputFormat, *, probabilities: bool = False, instances: bool = False
) -> list[Outputs]:
    """Name the outputs of images: like the image, in the same subfolder of ``out``, with another suffix.

    A page ``stack.tif[3]`` becomes ``stack_3``; images that would share an output keep their old suffix in the name, and get a
    number where that is not enough. Names that differ in case only are one to some systems, and so they are here.
    """

    def named(stem: str) -> Outputs:
        labels = out / (stem + SUFFIXES[format])
        if format == "ome-zarr":
            return Outputs(labels)
        more = (("probabilities", probabilities), ("instances", instances))
        return Outputs(labels, *(out / f"{stem}_{kind}{SUFFIXES[format]}" if asked else None for kind, asked in more))

    names = [_as_path(name) for name in names]
    short = [named(_short(name)) for name in names]
    claims = Counter(path for outputs in short for path in _caseless(outputs))
    taken: set[str] = set()
    chosen: list[Outputs] = []
    for name, first in zip(names, short, strict=True):
        alone = all(claims[path] == 1 for path in _caseless(first))
        longer = _long(name)
        others = (named(longer if number == 1 else f"{longer}_{number}") for number in count(1))
        outputs = next(one for one in chain([first] if alone else [], others) if taken.isdisjoint(_caseless(one)))
        taken |= _caseless(outputs)
        chosen.append(outputs)
    return chosen


def _caseless(outputs: Outputs) -> set[str]:
    return {str(path).casefold() for path in outputs.paths()}


def _as_path(name: str) -> str:
    """Return a name that stays inside the folder on every system: layers may be called anything."""
    parts = [re.sub(r'[<>:"|?*\\\x00-\x1f]', "_", part) for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "image"


def _short(name: str) -> str:
    path, page = split_name(name)
    return _of_page(without_suffix(path), page)


def _long(name: str) -> str:
    return _of_page(*split_name(name))


def _of_page(path: str, page: tuple[int, ...]) -> str:
    return "_".join((path, *map(str, page)))


class RowWriter(Protocol):
    """Takes the segmentation of one image row by row."""

    def write(self, top: int, labels: npt.NDArray[Any], probabilities: npt.NDArray[np.float32] | None) -> None:
        """Write ids ``[rows, W]`` and probabilities ``[K, rows, W]`` at a place."""
        ...

    def write_instances(self, instances: npt.NDArray[Any]) -> None:
        """Write numbers of instances ``[H, W]``."""
        ...


@contextmanager
def writing(
    outputs: Outputs,
    image: Any,
    classes: Sequence[ClassInfo],
    *,
    probabilities: bool,
    pixel_size: PixelSize | None,
    overwrite: bool,
) -> Iterator[RowWriter]:
    """Open the outputs of an image ``[H, W, C]``; at the end they are put in their places, unless something is raised.

    Raises
    ------
    StorageError
        If something is there already and ``overwrite`` is False, or if it cannot be written.
    """
    dtype = np.min_scalar_type(max(info.id for info in classes))
    with ExitStack() as stack:
        place = stack.enter_context(placing(outputs.labels, overwrite))
        if outputs.labels.name.endswith(SUFFIXES["ome-zarr"]):
            rows = OmeZarrRows(place, image, classes, dtype, probabilities=probabilities, pixel_size=pixel_size)
            yield rows
            rows.finish()
            return
        height, width = image.shape[:2]
        labels = stack.enter_context(TiffRows(place, (height, width), dtype, pixel_size))
        more = None
        if outputs.probabilities is not None:
            beside = stack.enter_context(placing(outputs.probabilities, overwrite))
            more = stack.enter_context(TiffRows(beside, (len(classes), height, width), np.float32, pixel_size))
        yield _TiffWriter(labels, more, outputs.instances, pixel_size, overwrite)


class _TiffWriter:
    """Ids, probabilities and instances in a file each."""

    def __init__(
        self,
        labels: TiffRows,
        probabilities: TiffRows | None,
        instances: Path | None,
        pixel_size: PixelSize | None,
        overwrite: bool,
    ) -> None:
        self._labels = labels
        self._probabilities = probabilities
        self._instances = instances
        self._pixel_size = pixel_size
        self._overwrite = overwrite

    def write(self, top: int, labels: npt.NDArray[Any], probabilities: npt.NDArray[np.float32] | None) -> None:
        self._labels.write(top, labels)
        if self._probabilities is not None and probabilities is not None:
            self._probabilities.write(top, probabilities)

    def write_instances(self, instances: npt.NDArray[Any]) -> None:
        if self._instances is not None:
            write_labels_tiff(self._instances, instances, self._pixel_size, overwrite=self._overwrite)
