"""Counting which class was taken for which, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo


class Confusion:
    """A confusion matrix, pooled over everything that is added.

    Parameters
    ----------
    classes
        The class table.

    Attributes
    ----------
    matrix
        int64 ``[K, K]``: rows are true classes, columns predicted ones, in the order of the table.
    """

    def __init__(self, classes: Sequence[ClassInfo]) -> None:
        self._names = unique_names(classes)
        self.matrix = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, predicted: npt.NDArray[Any], targets: npt.NDArray[Any]) -> None:
        """Count pixels; both arrays hold class indices of the same shape, and negative targets are left out."""
        counted = targets >= 0
        k = len(self._names)
        pairs = targets[counted].astype(np.int64) * k + predicted[counted]
        self.matrix += np.bincount(pairs, minlength=k * k).reshape(k, k)

    @property
    def pixels(self) -> int:
        """Number of pixels counted."""
        return int(self.matrix.sum())

    @property
    def iou(self) -> dict[str, float]:
        """Intersection over union by name, of the classes that are present in the targets."""
        hits = np.diagonal(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hits
        present = self.matrix.sum(axis=1) > 0
        return {name: float(hits[i] / union[i]) for i, name in enumerate(self._names) if present[i]}

    @property
    def miou(self) -> float:
        """Mean of :attr:`iou`; 0 if nothing was counted."""
        return float(np.mean(list(self.iou.values()))) if self.pixels else 0.0

    @property
    def accuracy(self) -> float:
        """Part of the pixels that are right; 0 if nothing was counted."""
        return float(np.trace(self.matrix) / self.pixels) if self.pixels else 0.0

    @property
    def majority_miou(self) -> float:
        """What :attr:`miou` would be if every pixel were said to be of the most frequent class."""
        sizes = self.matrix.sum(axis=1)
        return float(sizes.max() / self.pixels / np.count_nonzero(sizes)) if self.pixels else 0.0


def unique_names(classes: Sequence[ClassInfo]) -> list[str]:
    """Return the names of classes, with the id added where two are alike."""
    names = [info.name for info in classes]
    return [info.name if names.count(info.name) == 1 else f"{info.name} ({info.id})" for info in classes]
