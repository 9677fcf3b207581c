"""Scores of segmentations against dense labels, pooled over all images of a test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_affmae.card import ClassInfo
from napari_affmae.engine.confusion import Confusion

TOLERANCE = 2.0
"""Distance in pixels up to which two outlines are the same."""


@dataclass(frozen=True)
class Scores:
    """Figures of one test set.

    Attributes
    ----------
    miou, iou, accuracy
        From the pooled confusion matrix; ``iou`` by class name.
    boundary_f1
        F1 of the outlines of the thin class at :data:`TOLERANCE`, pooled; None without such a class.
    """

    miou: float
    iou: dict[str, float]
    accuracy: float
    boundary_f1: float | None


def score(
    predicted: Sequence[npt.NDArray[Any]], truth: Sequence[npt.NDArray[Any]], classes: Sequence[ClassInfo], thin: int | None
) -> Scores:
    """Compare class indices ``[H, W]`` with true ones, image by image, into one set of figures."""
    confusion = Confusion(classes)
    hits = np.zeros(4)
    for ours, theirs in zip(predicted, truth, strict=True):
        confusion.add(ours, theirs.astype(np.int64))
        if thin is not None:
            hits += outline_hits(ours == thin, theirs == thin)
    return Scores(confusion.miou, confusion.iou, confusion.accuracy, None if thin is None else boundary_f1(hits))


def outline_hits(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return outline pixels: ours near theirs, ours in all, theirs near ours, theirs in all."""
    our_outline, their_outline = outline(ours), outline(theirs)
    return np.array(
        [_near(our_outline, their_outline), our_outline.sum(), _near(their_outline, our_outline), their_outline.sum()], float
    )


def outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a mask that touch its outside by an edge; the border of the image is no outside."""
    inside: npt.NDArray[np.bool_] = ndimage.binary_erosion(mask, border_value=1)
    return mask & ~inside


def boundary_f1(hits: npt.NDArray[np.float64]) -> float:
    """Return the harmonic mean of precision and recall of pooled :func:`outline_hits`; 0 if either has no pixel."""
    ours_hit, ours, theirs_hit, theirs = hits
    precision, recall = ours_hit / max(ours, 1), theirs_hit / max(theirs, 1)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _near(these: npt.NDArray[np.bool_], those: npt.NDArray[np.bool_]) -> int:
    if not those.any():
        return 0
    return int((ndimage.distance_transform_edt(~those)[these] <= TOLERANCE).sum())
