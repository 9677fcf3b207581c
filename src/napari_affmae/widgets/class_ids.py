"""The classes of a network as the dock's table and layers number them.

In layers 0 is “not labelled”, and never a class. A network that learned from dense labels may call one of its classes 0: that
class has another id here, the same wherever the network comes from. The file keeps 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array
import numpy as np

from ..card import ClassInfo
from ..data.classes import class_table_of
from .plane import as_dask
from .state import MOST_CLASS_ID, ModelOnDisk


def class_table(model: ModelOnDisk) -> tuple[ClassInfo, ...]:
    """Return the classes of a segmenter as layers number them."""
    return in_layers(class_table_of(model))


def in_layers(classes: Sequence[ClassInfo]) -> tuple[ClassInfo, ...]:
    """Return a network's classes with the ids that they have in layers."""
    return tuple(info if info.id else info.replace(id=_in_place_of_0(classes)) for info in classes)


def labels_in_layers(labels: Any, classes: Sequence[ClassInfo]) -> Any:
    """Return what a network predicted, in ids of its own ``classes``, as layers hold it; what lies on disk is read later."""
    if all(info.id for info in classes):
        return labels
    place = labels.dtype.type(_in_place_of_0(classes))
    if isinstance(labels, np.ndarray):
        return np.where(labels == 0, place, labels)
    later = as_dask(labels, chunks=labels.chunks)
    return dask.array.where(later == 0, place, later)


def _in_place_of_0(classes: Sequence[ClassInfo]) -> int:
    """Return the largest id that no class has: people paint with the small ones."""
    return max(set(range(1, MOST_CLASS_ID + 1)) - {info.id for info in classes})
