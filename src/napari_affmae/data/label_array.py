"""Ids on disk that change with every stroke: a Zarr 3 array in OME-Zarr, of which only the chunks that differ are written.

The array is one scale of ``labels/<kind>`` in the image's OME-Zarr (NGFF 0.5, https://ngff.openmicroscopy.org/0.5/). Zarr puts
each chunk in its place whole (a file beside it, then a rename), so whoever reads after a crash finds the old or the new chunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import zarr

from ..card import ClassInfo
from ..errors import StorageError, cannot_save
from .write import place_whole
from .write_ome_zarr import legend

CHUNK = 256
"""Side of a chunk in pixels: a stroke touches a few, and each takes about a millisecond."""

_VERSION = "0.5"
"""Of NGFF."""

_DAMAGED = (OSError, ValueError, KeyError, RuntimeError)
"""What zarr raises where a store is damaged, or away."""

LabelKind = Literal["paint", "segmentation"]
KINDS: tuple[LabelKind, ...] = ("paint", "segmentation")
Region = tuple[slice, ...]
"""Part of an array, one slice per axis, in steps of 1 and within its bounds."""
Index = tuple[int, ...]


class LabelArray:
    """The labels ``[..., H, W]`` (uint8) of one kind for one image.

    Parameters
    ----------
    folder
        The image's OME-Zarr; made when something is written first.
    kind
        What the labels are.

    Notes
    -----
    Not for several threads at a time, nor for several processes that write.
    """

    def __init__(self, folder: Path, kind: LabelKind) -> None:
        self.folder = folder
        self.kind = kind
        self._array: Any = None
        self._signatures: dict[Index, bytes] = {}
        self._counts: dict[Index, npt.NDArray[np.int64]] = {}
        self._classes: tuple[ClassInfo, ...] | None = None

    def read(self) -> npt.NDArray[np.uint8] | None:
        """Return all labels, or None if there are none.

        Raises
        ------
        StorageError
            If there are some that cannot be read.
        """
        array = self._open()
        if array is None:
            return None
        with _readable(self.folder):
            labels: npt.NDArray[np.uint8] = np.asarray(array[...], np.uint8)
        for index, region in _chunks(labels.shape, None):
            self._note(index, np.ascontiguousarray(labels[region]))
        return labels

    def read_plane(self, index: Index) -> npt.NDArray[np.uint8] | None:
        """Return the labels ``[H, W]`` of one plane, or None if there are none; raise :class:`StorageError` as :meth:`read`."""
        array = self._open()
        if array is None or len(index) != array.ndim - 2:
            return None
        if any(at >= size for at, size in zip(index, array.shape[:-2], strict=True)):
            return None
        with _readable(self.folder):
            return np.asarray(array[index], np.uint8)

    def write(
        self, labels: npt.NDArray[Any], regions: Sequence[Region] | None = None, classes: Sequence[ClassInfo] | None = None
    ) -> int:
        """Write what changed and return the number of chunks that did.

        Parameters
        ----------
        labels
            All labels, ids 0 to 255.
        regions
            Where to look for changes; None looks everywhere.
        classes
            Names and colours, written beside the ids whenever they are others than before.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        array = self._open()
        if array is not None and tuple(array.shape) != labels.shape:
            self._set_aside(tuple(array.shape))
            array = None
        if array is None:
            if not labels.any():
                return 0
            array = self._make(labels.shape, classes)
        written = 0
        try:
            self._describe(classes)
            for index, region in _chunks(labels.shape, regions):
                # A copy: somebody may paint while it is written, and then it is not what was noted.
                chunk = np.array(labels[region], np.uint8, order="C")
                if index not in self._signatures:
                    self._note(index, np.ascontiguousarray(array[region]))
                if self._signatures[index] != _signature(chunk):
                    array[region] = chunk
                    self._note(index, chunk)
                    written += 1
        except _DAMAGED as error:
            raise cannot_save("the labels", self.folder, error) from error
        return written

    def plane_counts(self) -> dict[Index, dict[int, int]]:
        """Return the pixels per id, 0 left out, of every plane that was read or written so far and holds some."""
        planes: dict[Index, npt.NDArray[np.int64]] = {}
        for index, counts in self._counts.items():
            planes[index[:-2]] = planes.get(index[:-2], 0) + counts
        return {plane: {int(value): int(counts[value]) for value in np.flatnonzero(counts)} for plane, counts in planes.items()}

    def relabel(self, source: int, target: int) -> npt.NDArray[np.int64]:
        """Turn one id into another, and return the flat places ``[n]`` where it was, for :meth:`restore`."""
        labels = self.read()
        if labels is None:
            return np.zeros(0, np.int64)
        places = relabel(labels, source, target)
        self.write(labels)
        return places

    def restore(self, places: npt.NDArray[np.int64], source: int, target: int) -> None:
        """Undo :meth:`relabel` wherever the target is still there."""
        labels = self.read()
        if labels is not None:
            relabel(labels, target, source, places)
            self.write(labels)

    # Plumbing

    def _open(self) -> Any:
        if self._array is None and (self.folder / "labels" / self.kind).is_dir():
            with _readable(self.folder):
                self._array = zarr.open_array(self.folder / "labels" / self.kind / "0", mode="r+")
        return self._array

    def _make(self, shape: tuple[int, ...], classes: Sequence[ClassInfo] | None) -> Any:
        """Make the image's OME-Zarr, or this kind in it, whole or not at all."""
        names = "tczyx" if len(shape) == 5 else "tzyx"[-len(shape) :]
        axes = [{"name": name, "type": {"t": "time", "c": "channel"}.get(name, "space")} for name in names]

        def make(place: Path) -> None:
            group = zarr.open_group(place, mode="w", zarr_format=3)
            group.create_array(
                "0",
                shape=shape,
                chunks=(1,) * (len(shape) - 2) + (CHUNK, CHUNK),
                dtype=np.uint8,
                dimension_names=list(names),
            )
            transform = {"type": "scale", "scale": [1.0] * len(shape)}
            scales: Any = [
                {"name": self.kind, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [transform]}]}
            ]
            group.attrs["ome"] = {"version": _VERSION, "multiscales": scales, "image-label": legend(classes or ())}

        try:
            labels = zarr.open_group(self.folder, mode="a", zarr_format=3).require_group("labels")
            place_whole(self.folder / "labels" / self.kind, make, overwrite=False)
            there = [kind for kind in KINDS if (self.folder / "labels" / kind).is_dir()]
            labels.attrs["ome"] = {"version": _VERSION, "labels": there}
        except (OSError, ValueError) as error:
            raise cannot_save("the labels", self.folder, error) from error
        return self._open()

    def _describe(self, classes: Sequence[ClassInfo] | None) -> None:
        if classes is None or tuple(classes) == self._classes:
            return
        group = zarr.open_group(self.folder / "labels" / self.kind, mode="r+")
        ome = dict(cast(dict[str, Any], group.attrs["ome"]))
        if ome.get("image-label") != legend(classes):
            group.attrs["ome"] = {**ome, "image-label": legend(classes)}
        self._classes = tuple(classes)

    def _set_aside(self, shape: tuple[int, ...]) -> None:
        """Rename labels that belong to an image of another size: nothing painted is ever deleted for that."""
        size = "x".join(map(str, shape))
        place = self.folder / "labels" / self.kind
        aside = next(
            path
            for number in range(1, 10**6)
            for path in [place.with_name(f"{self.kind}-{size}-{number}")]
            if not path.exists()
        )
        try:
            place.rename(aside)
        except OSError as error:
            raise cannot_save("the labels", self.folder, error) from error
        self._array = None
        self._signatures.clear()
        self._counts.clear()

    def _note(self, index: Index, chunk: npt.NDArray[np.uint8]) -> None:
        self._signatures[index] = _signature(chunk)
        counts = np.bincount(chunk.ravel(), minlength=256)
        counts[0] = 0
        self._counts[index] = counts


def relabel(
    labels: npt.NDArray[Any], source: int, target: int, places: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Turn one id into another in place, everywhere or only at flat places, and return the flat places that changed."""
    if places is None:
        places = np.flatnonzero(labels == source)
    else:
        places = places[labels[np.unravel_index(places, labels.shape)] == source]
    labels[np.unravel_index(places, labels.shape)] = target
    return places


def _chunks(shape: tuple[int, ...], regions: Sequence[Region] | None) -> Iterator[tuple[Index, Region]]:
    """Yield index and place of every chunk that a region touches, each once."""
    sides = (1,) * (len(shape) - 2) + (CHUNK, CHUNK)
    if regions is None:
        regions = [tuple(slice(0, size) for size in shape)]
    seen: set[Index] = set()
    for region in regions:
        spans = [
            range(max(part.start, 0) // side, -(-min(part.stop, size) // side))
            for part, side, size in zip(region, sides, shape, strict=True)
        ]
        for index in product(*spans):
            if index not in seen:
                seen.add(index)
                yield (
                    index,
                    tuple(
                        slice(at * side, min((at + 1) * side, size)) for at, side, size in zip(index, sides, shape, strict=True)
                    ),
                )


def _signature(chunk: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(chunk.data, digest_size=16).digest()


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn what a damaged store raises into one line for the user."""
    try:
        yield
    except _DAMAGED as error:
        reason = (
            getattr(error, "strerror", None) or "parts of them are missing or damaged"
        )  # zarr's words say neither more nor better
        raise StorageError(
            f"the labels in {folder} cannot be read: {reason}; bring them back, restore a snapshot, or move that folder away"
        ) from error
