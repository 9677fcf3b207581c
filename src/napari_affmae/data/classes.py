"""The class table: which ids there are, what they are called and how they look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo, ModelCard
from ..errors import LabelError
from ..palette import BACKGROUND_COLOR, next_color
from .label_images import LabelledImage

MOST_CLASSES = 64
IGNORE = -1
"""Target of a pixel that says nothing: not labelled, or held out."""


def default_classes(ids: Sequence[int], *, foreground: bool = False) -> tuple[ClassInfo, ...]:
    """Name and colour classes.

    Parameters
    ----------
    ids
        The ids of the classes, in any order.
    foreground
        Whether these are the two classes that :func:`~napari_affmae.data.label_images.to_foreground` makes.

    Returns
    -------
    tuple of ClassInfo
        In order of id, called ``"class 0"`` and so on: labels do not say what their ids are, and 0 may be the cells as well as
        what is around them. The two of ``foreground`` are called ``"background"`` and ``"foreground"``.
    """
    ordered = sorted(set(ids))
    table: list[ClassInfo] = []
    for place, class_id in enumerate(ordered):
        name = ("background", "foreground")[place] if foreground and len(ordered) == 2 else f"class {class_id}"
        recedes = class_id == 0 or name == "background"
        color = BACKGROUND_COLOR if recedes else next_color([info.color for info in table])
        table.append(ClassInfo(id=class_id, name=name, color=color))
    return tuple(table)


def class_table(
    examples: Sequence[LabelledImage], *, sparse: bool, num_classes: int | None = None, foreground: bool = False
) -> tuple[ClassInfo, ...]:
    """Make the class table that labels call for.

    Parameters
    ----------
    examples
        Labelled images.
    sparse
        Whether 0 means not labelled.
    num_classes
        Number of classes if some may be missing from the labels: ids 0..K-1, or 1..K if sparse.
    foreground
        As in :func:`default_classes`.

    Raises
    ------
    LabelError
        If there is no paint, only one class, more ids than a class table can hold, or ids beyond ``num_classes``.
    """
    ids = ids_in(examples, sparse)
    if not ids:
        raise LabelError("nothing is painted; paint some pixels of at least two classes (0 means not labelled)")
    if len(ids) == 1:
        where = "painted" if sparse else "in the labels"
        raise LabelError(f"only class {ids[0]} is {where}; paint at least two classes, one of them may be the background")
    if len(ids) > MOST_CLASSES:
        raise LabelError(
            f"the labels hold {len(ids)} different ids, more than {MOST_CLASSES} classes; "
            "if they number instances, turn them into foreground and background (--foreground)"
        )
    if num_classes is not None:
        expected = range(1, num_classes + 1) if sparse else range(num_classes)
        beyond = [class_id for class_id in ids if class_id not in expected]
        if beyond:
            raise LabelError(
                f"expected {num_classes} classes with ids {expected[0]} to {expected[-1]}, but the labels hold id {beyond[0]}; "
                "raise the number of classes, or use --sparse if 0 means not labelled"
                if not sparse
                else f"expected {num_classes} classes with ids 1 to {num_classes}, but the labels hold id {beyond[0]}; "
                "raise the number of classes"
            )
        ids = list(expected)
    return default_classes(ids, foreground=foreground)


class Segmenting(Protocol):
    """A segmenter, or what is known of one on disk: the dock makes class tables without reading it."""

    @property
    def card(self) -> ModelCard:
        """What travels with its weights."""

    @property
    def num_classes(self) -> int:
        """Number of logits."""


def class_table_of(model: Segmenting) -> tuple[ClassInfo, ...]:
    """Return the class table of a model; one that was never trained has ids 0..K-1."""
    return model.card.classes or default_classes(range(model.num_classes))


def ids_in(examples: Sequence[LabelledImage], sparse: bool) -> list[int]:
    """Return the ids that occur, sorted; 0 does not count if sparse."""
    found: set[int] = set()
    for example in examples:
        found.update(np.unique(example.labels).tolist())
    return sorted(found - {0} if sparse else found)


def to_targets(labels: npt.NDArray[Any], classes: Sequence[ClassInfo], sparse: bool) -> npt.NDArray[np.int64]:
    """Turn ids ``[H, W]`` into class indices 0..K-1 in the order of the table; -1 where nothing is labelled.

    Raises
    ------
    LabelError
        If an id is not in the table, or if labels are sparse and the table has a class 0, which they cannot name.
    """
    if sparse and (zero := next((info for info in classes if info.id == 0), None)) is not None:
        # 1 may be the class of that id, or the first one, as paint counts classes: a guess would be wrong without a sign.
        raise LabelError(
            f"the classes count from 0 ({zero.name}), but in paint 0 means not labelled, so that its ids may mean others: "
            "give labels of all pixels (without --sparse), or a model that learned from such paint"
        )
    if sparse:
        # Paint is sparse: everything but the search for it works on the painted pixels alone.
        painted = np.flatnonzero(labels)
        targets = np.full(labels.shape, IGNORE, np.int64)
        targets.reshape(-1)[painted] = to_targets(labels.reshape(-1)[painted], classes, sparse=False)
        return targets
    table = [info.id for info in classes]
    order = np.argsort(table)
    sorted_ids = np.asarray(table)[order]
    place = np.searchsorted(sorted_ids, labels).clip(max=len(table) - 1)
    known = sorted_ids[place] == labels
    if not known.all():
        least = int(labels[~known].min())
        unlabelled = "use --sparse if 0 means not labelled, " if least == 0 else ""
        raise LabelError(
            f"the labels hold id {least}, but the classes are {_listed(classes)}; {unlabelled}add the class or correct the "
            "labels, or, if they number instances, turn them into foreground and background (--foreground)"
        )
    indices: npt.NDArray[np.int64] = order[place].astype(np.int64, copy=False)
    return indices


def places_by_name(theirs: Sequence[ClassInfo], classes: Sequence[ClassInfo]) -> npt.NDArray[np.int64]:
    """Return the places ``[len(theirs)]`` that classes of labels have in a model's table: those of the same names.

    Ids say nothing, as a model of dense labels counts from 0 and paint from 1. Among several of one name the same id decides.

    Raises
    ------
    LabelError
        If a name is not in the table, or no single one is meant.
    """
    places = []
    for info in theirs:
        alike = [place for place, own in enumerate(classes) if own.name == info.name]
        fits = [place for place in alike if classes[place].id == info.id] or alike
        if len(fits) != 1:
            raise LabelError(
                f"class {info.id} ({info.name}) of the labels is none of the model's: {_listed(classes)}; classes are matched "
                "by name: name them alike, or give a model that learned these"
            )
        places.append(fits[0])
    return np.array(places, np.int64)


def _listed(classes: Sequence[ClassInfo]) -> str:
    return ", ".join(f"{info.id} ({info.name})" for info in classes)
