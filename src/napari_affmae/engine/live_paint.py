"""Paint as live training sees it: which pixels are painted, and which of them are new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo
from ..data.classes import to_targets
from ..data.label_images import LabelledImage

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PaintedPixels:
    """Painted pixels of one image in raster order.

    Attributes
    ----------
    image
        Its name.
    rows, columns, classes
        int64 ``[n]``; classes are indices of the table.
    """

    image: str
    rows: Ints
    columns: Ints
    classes: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: npt.NDArray[Any]) -> PaintedPixels:
        """Return some of the pixels."""
        return PaintedPixels(self.image, self.rows[chosen], self.columns[chosen], self.classes[chosen])


class Paint:
    """All paint of all images, and what was added since training last caught up with it.

    Parameters
    ----------
    classes
        The class table.

    Attributes
    ----------
    all
        Every painted pixel, images in the order of their names: the same paint gives the same list, however it came about.
    new
        What of it was added or changed since :meth:`caught_up`.
    counts
        int64 ``[K]``: painted pixels of each class.
    changed
        Whether anything was painted or erased since :meth:`caught_up`.
    """

    def __init__(self, classes: Sequence[ClassInfo]) -> None:
        self._classes = tuple(classes)
        self._labels: dict[str, npt.NDArray[Any]] = {}
        self._learned: dict[str, npt.NDArray[Any]] = {}
        self._found: dict[str, PaintedPixels] = {}
        self.new: list[PaintedPixels] = []
        self.changed = False
        self.counts: Ints = np.zeros(len(self._classes), np.int64)

    @property
    def all(self) -> list[PaintedPixels]:
        """See the class."""
        return [pixels for _, pixels in sorted(self._found.items()) if len(pixels)]

    def update(self, examples: Sequence[LabelledImage]) -> None:
        """Take over all paint, which replaces what was there before.

        Raises
        ------
        LabelError
            If an id is not in the table; what was known before stays.
        """
        now = {example.name: example.labels for example in examples}
        # Paint is sparse: everything but the search for it works on the painted pixels alone.
        found = {
            name: self._found[name] if self._labels.get(name) is labels else self._pixels(name, labels, np.flatnonzero(labels))
            for name, labels in sorted(now.items())
        }
        self._labels, self._found, self.new = now, found, []
        self.changed = now.keys() != self._learned.keys()
        for name, labels in sorted(now.items()):
            learned = self._learned.get(name)
            if learned is labels:
                continue
            if learned is None or learned.shape != labels.shape:
                differs = np.flatnonzero(labels)
            else:
                differs = np.flatnonzero(labels != learned)
            self.changed |= bool(len(differs))
            added = differs[labels.reshape(-1)[differs] != 0]
            if len(added):
                self.new.append(self._pixels(name, labels, added))
        counted = [np.bincount(pixels.classes, minlength=len(self._classes)) for pixels in self._found.values()]
        self.counts = sum(counted, np.zeros(len(self._classes), np.int64))

    def caught_up(self) -> None:
        """Note that training has seen the paint as it is now: nothing of it is new any more."""
        self._learned = dict(self._labels)
        self.new = []
        self.changed = False

    def of(self, name: str) -> PaintedPixels:
        """Return the painted pixels of an image."""
        return self._found[name]

    def not_new(self, name: str) -> None:
        """Note that the paint of an image is none that somebody waits for."""
        self._learned[name] = self._labels[name]
        self.new = [part for part in self.new if part.image != name]

    @property
    def partly_new(self) -> bool:
        """Whether some of the paint was added since training caught up with it, and some was there before."""
        return 0 < sum(map(len, self.new)) < int(self.counts.sum())

    @property
    def present(self) -> npt.NDArray[np.intp]:
        """Indices of the classes that are painted."""
        return np.flatnonzero(self.counts)

    def _pixels(self, name: str, labels: npt.NDArray[Any], flat: npt.NDArray[np.intp]) -> PaintedPixels:
        rows, columns = np.divmod(flat.astype(np.int64), labels.shape[1])
        return PaintedPixels(name, rows, columns, to_targets(labels.reshape(-1)[flat], self._classes, sparse=True))


def pixels_of(name: str, targets: npt.NDArray[np.integer[Any]]) -> PaintedPixels:
    """Return what is painted in class indices ``[H, W]``, -1 where nothing is."""
    rows, columns = np.nonzero(targets >= 0)
    return PaintedPixels(name, rows, columns, targets[rows, columns].astype(np.int64))


def without(pixels: list[PaintedPixels], kept: list[PaintedPixels]) -> list[PaintedPixels]:
    """Return painted pixels less those that were kept back."""
    apart = {part.image: _codes(part) for part in kept}
    nobody = np.empty(0, np.int64)
    left = [part.take(~np.isin(_codes(part), apart.get(part.image, nobody))) for part in pixels]
    return [part for part in left if len(part)]


def spread(pixels: Sequence[PaintedPixels], classes: int, most: int) -> list[PaintedPixels]:
    """Choose at most ``most`` pixels, as evenly over the classes as there are, scattered over the paint of each.

    Which ones depends on nothing but where the paint is.
    """
    chosen = are_chosen(pixels, classes, most)
    ends = np.cumsum([len(part) for part in pixels])
    return [part.take(chosen[end - len(part) : end]) for part, end in zip(pixels, ends, strict=True)]


def are_chosen(pixels: Sequence[PaintedPixels], classes: int, most: int) -> npt.NDArray[np.bool_]:
    """Return which of all pixels :func:`spread` chooses; fewer are always among more."""
    joined = np.concatenate([part.classes for part in pixels])
    mixed = np.concatenate([_scatter(part.rows, part.columns, place) for place, part in enumerate(pixels)])
    chosen = np.zeros(len(joined), np.bool_)
    for share, index in _shares(np.bincount(joined, minlength=classes), most):
        own = np.flatnonzero(joined == index)
        chosen[own[np.argsort(mixed[own], kind="stable")[:share]]] = True
    return chosen


def _shares(counts: Ints, most: int) -> list[tuple[int, int]]:
    """Return how many pixels to take of each class, rarest first: what rare ones cannot give goes to the others."""
    shares = []
    left = most
    order = [int(index) for index in np.argsort(counts, kind="stable") if counts[index]]
    for place, index in enumerate(order):
        share = min(int(counts[index]), left // (len(order) - place))
        shares.append((share, index))
        left -= share
    return shares


def _scatter(rows: Ints, columns: Ints, salt: int) -> npt.NDArray[np.uint64]:
    """Return a well-spread number for every place (a multiplicative hash)."""
    mixed = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + columns.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed + np.uint64(salt)) * np.uint64(0x165667B19E3779F9)
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def _codes(pixels: PaintedPixels) -> Ints:
    """Return one number for every place."""
    return (pixels.rows << 32) | pixels.columns
