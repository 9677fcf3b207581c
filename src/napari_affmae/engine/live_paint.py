"""Paint as live training sees it: where it is, what of it is new, and which windows around it to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo
from ..data.classes import IGNORE, to_targets
from ..data.label_images import LabelledImage
from .live_tiles import TiledImage

_MOST_PLACES = 100_000
"""Painted pixels remembered per class and image: enough that every stroke is among them."""

_MARGIN = 8
"""The chosen pixel lies at least an eighth of the window inside its edges, where the tile allows."""

Places = npt.NDArray[np.int64]
"""``[n, 3]``: number of the image, row and column of painted pixels."""


@dataclass(frozen=True)
class Window:
    """A square of an image to train on.

    Attributes
    ----------
    image
        Name of the image.
    tile
        First row and column of the tile that is encoded.
    row, column
        Where the window begins in the tile, in pixels; multiples of the patch size.
    """

    image: str
    tile: tuple[int, int]
    row: int
    column: int


class Paint:
    """All paint of all images, and what was added since training last caught up with it.

    Parameters
    ----------
    classes
        The class table.
    window, patch
        Side of a window and of a patch in pixels.

    Attributes
    ----------
    pixels
        int64 ``[K]``: painted pixels of each class.
    changed
        Whether anything was painted or erased since :meth:`caught_up`.
    """

    def __init__(self, classes: Sequence[ClassInfo], window: int, patch: int) -> None:
        self._classes = tuple(classes)
        self._window = window
        self._patch = patch
        self._labels: dict[str, npt.NDArray[Any]] = {}
        self._learned: dict[str, npt.NDArray[Any]] = {}
        self._names: list[str] = []
        self._all: list[Places] = []
        self._new: list[Places] = []
        self.changed = False
        self.pixels: npt.NDArray[np.int64] = np.zeros(len(self._classes), np.int64)

    def update(self, examples: Sequence[LabelledImage]) -> None:
        """Take over all paint, which replaces what was there before.

        Raises
        ------
        LabelError
            If an id is not in the table.
        """
        self._labels = {example.name: example.labels for example in examples}
        self._names = list(self._labels)
        self.changed = self._labels.keys() != self._learned.keys()
        self.pixels = np.zeros(len(self._classes), np.int64)
        everything: list[list[Places]] = [[] for _ in self._classes]
        new: list[list[Places]] = [[] for _ in self._classes]
        for number, (name, labels) in enumerate(self._labels.items()):
            # Paint is sparse: everything but the search for it works on the painted pixels alone.
            painted = np.flatnonzero(labels)
            self.pixels += self._add(everything, number, labels, painted)
            before = self._learned.get(name)
            if before is labels:
                continue
            fits = before is not None and before.shape == labels.shape
            differs = np.flatnonzero(labels != before) if fits else painted
            self.changed |= bool(len(differs))
            self._add(new, number, labels, differs[labels.reshape(-1)[differs] != 0])
        self._all = [_joined(places) for places in everything]
        self._new = [_joined(places) for places in new]

    def caught_up(self) -> None:
        """Note that training has seen the paint as it is now: nothing of it is new any more."""
        self._learned = dict(self._labels)
        self._new = []
        self.changed = False

    @property
    def present(self) -> npt.NDArray[np.intp]:
        """Indices of the classes that are painted."""
        return np.flatnonzero(self.pixels)

    @property
    def has_new(self) -> bool:
        """Whether paint was added since :meth:`caught_up`."""
        return any(len(places) for places in self._new)

    def draw(self, images: Mapping[str, TiledImage], rng: np.random.Generator, *, new: bool) -> Window:
        """Draw a window around a painted pixel: every class equally likely, then every pixel of it.

        Parameters
        ----------
        new
            Around what was added since :meth:`caught_up`, if anything was.
        """
        pools = [pool for pool in (self._new if new and self.has_new else self._all) if len(pool)]
        pool = pools[int(rng.integers(len(pools)))]
        number, row, column = (int(value) for value in pool[rng.integers(len(pool))])
        reach = self._window - self._window // _MARGIN
        offsets = rng.integers(self._window // _MARGIN, reach, 2)
        return self._around(images, number, row, column, (int(offsets[0]), int(offsets[1])))

    def cover(self, images: Mapping[str, TiledImage], most: int, rng: np.random.Generator) -> list[Window]:
        """Return up to ``most`` windows that together show the newest paint (all paint if nothing was added), or part of it."""
        pools = [pool for pool in (self._new if self.has_new else self._all) if len(pool)]
        left = np.concatenate(pools)
        windows: list[Window] = []
        while len(left) and len(windows) < most:
            number, row, column = (int(value) for value in left[rng.integers(len(left))])
            window = self._around(images, number, row, column, (self._window // 2, self._window // 2))
            windows.append(window)
            top, start = window.tile[0] + window.row, window.tile[1] + window.column
            inside = (left[:, 0] == number) & _between(left[:, 1], top, self._window)
            left = left[~(inside & _between(left[:, 2], start, self._window))]
        return windows

    def targets(self, window: Window, *, new: bool = False) -> npt.NDArray[np.int64]:
        """Return class indices ``[W, W]`` of a window, -1 where nothing is painted; with ``new``, nothing but new paint."""
        labels = self._labels[window.image]
        top, left = window.tile[0] + window.row, window.tile[1] + window.column
        part = labels[top : top + self._window, left : left + self._window]
        targets = np.full((self._window, self._window), IGNORE, np.int64)
        targets[: part.shape[0], : part.shape[1]] = to_targets(part, self._classes, sparse=True)
        before = self._learned.get(window.image)
        if new and self.has_new and before is not None and before.shape == labels.shape:
            same = part == before[top : top + self._window, left : left + self._window]
            targets[: part.shape[0], : part.shape[1]][same] = IGNORE
        return targets

    def _around(self, images: Mapping[str, TiledImage], number: int, row: int, column: int, offsets: tuple[int, int]) -> Window:
        name = self._names[number]
        image = images[name]
        tile = image.around(row, column)
        start_row, start_column = (
            min(max(position - start - offset, 0), image.tile - self._window) // self._patch * self._patch
            for position, start, offset in zip((row, column), tile, offsets, strict=True)
        )
        return Window(name, tile, start_row, start_column)

    def _add(self, places: list[list[Places]], number: int, labels: npt.NDArray[Any], flat: npt.NDArray[np.intp]) -> Places:
        """Add painted pixels of an image to the lists of their classes; return how many there are of each class."""
        classes = to_targets(labels.reshape(-1)[flat], self._classes, sparse=True)
        for index in np.unique(classes):
            rows, columns = np.divmod(_thinned(flat[classes == index]), labels.shape[1])
            places[index].append(np.stack((np.full_like(rows, number), rows, columns), axis=1))
        return np.bincount(classes, minlength=len(self._classes))


def _thinned(flat: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    return flat if len(flat) <= _MOST_PLACES else np.random.default_rng(0).choice(flat, _MOST_PLACES, replace=False)


def _joined(places: list[Places]) -> Places:
    return np.concatenate([*places, np.empty((0, 3), np.int64)])


def _between(values: npt.NDArray[np.int64], start: int, length: int) -> npt.NDArray[np.bool_]:
    return (values >= start) & (values < start + length)
