"""Keep some of the labels back to measure on them.

What is kept back, in order of preference:

- whole images, if at least five are labelled: the most honest, but neighbouring sections of one volume still resemble each
  other;
- *sparse* labels: whole connected strokes. Strokes that lie side by side in the same image look alike, so the score leans
  towards the optimistic;
- *dense* labels: whole square blocks. The network sees the pixels around a block in training, not its labels.

Nothing is kept back unless every class can spare some and keep more than it gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..card import ClassInfo
from .classes import IGNORE, to_targets
from .label_images import LabelledImage

Kind = Literal["images", "strokes", "blocks", "none"]
Mask = npt.NDArray[np.bool_]
Targets = npt.NDArray[np.int16]

WHOLE_IMAGES_FROM = 5
BLOCKS_PER_SIDE = 8
_TRIES = 64


def keep_back(
    examples: Sequence[LabelledImage], classes: Sequence[ClassInfo], part: float, *, sparse: bool, seed: int
) -> tuple[list[Targets], list[Mask], Kind]:
    """Turn labels into targets and choose which to keep back, see :func:`hold_out`.

    Returns
    -------
    targets, masks, kind
        int16 class indices ``[H, W]`` per image, -1 where nothing is labelled; and what :func:`hold_out` returns.

    Raises
    ------
    LabelError
        If an id is not in the class table.
    """
    targets = [to_targets(example.labels, classes, sparse).astype(np.int16) for example in examples]
    return targets, *hold_out(targets, len(classes), part, sparse, seed)


def hold_out(targets: Sequence[Targets], num_classes: int, part: float, sparse: bool, seed: int) -> tuple[list[Mask], Kind]:
    """Choose the pixels to keep back.

    Parameters
    ----------
    targets
        Class indices ``[H, W]`` per image, -1 where nothing is labelled.
    num_classes
        Number of classes.
    part
        About how much of each class to keep back, 0 to 0.5.
    sparse
        Strokes or blocks where whole images will not do.
    seed
        The same seed keeps back the same pixels.

    Returns
    -------
    masks, kind
        True where a labelled pixel is kept back, one mask per image, and what was kept back.
    """
    nothing: list[Mask] = [np.zeros(target.shape, np.bool_) for target in targets]
    if part <= 0:
        return nothing, "none"
    rng = np.random.default_rng([seed, 0x5E1D])
    if sum(bool((target >= 0).any()) for target in targets) >= WHOLE_IMAGES_FROM:
        chosen = _choose(_class_counts(targets, num_classes), part, rng)
        if chosen is not None:
            return [(target >= 0) & bool(take) for target, take in zip(targets, chosen, strict=True)], "images"
    pieces = [_strokes(target, num_classes) if sparse else _blocks(target) for target in targets]
    counts = np.concatenate([_piece_counts(target, piece, num_classes) for target, piece in zip(targets, pieces, strict=True)])
    chosen = _choose(counts, part, rng)
    if chosen is None:
        return nothing, "none"
    masks, first = [], 0
    for target, piece in zip(targets, pieces, strict=True):
        count = int(piece.max()) + 1
        masks.append((target >= 0) & np.concatenate((chosen[first : first + count], [False]))[piece])
        first += count
    return masks, "strokes" if sparse else "blocks"


def _choose(counts: npt.NDArray[np.int64], part: float, rng: np.random.Generator) -> Mask | None:
    """Choose pieces so that about ``part`` of every class is kept back; ``counts`` is ``[pieces, classes]``.

    Several random orders are tried and the most even choice wins. None if some class cannot spare a piece.
    """
    totals = counts.sum(axis=0)
    present = totals > 0
    shares = counts[:, present] / totals[present]
    best: Mask | None = None
    least = np.inf
    for _ in range(_TRIES):
        chosen = np.zeros(len(counts), np.bool_)
        kept = np.zeros(shares.shape[1])
        for piece in rng.permutation(len(counts)):
            after = kept + shares[piece]
            needed = (shares[piece] > 0) & (kept < 0.5 * part)
            if shares[piece].any() and (after < 0.5).all() and (needed.any() or (after <= part).all()):
                chosen[piece] = True
                kept = after
        if (kept > 0).all():
            error = float(np.abs(kept - part).sum())
            if error < least:
                best, least = chosen, error
    return best


def _class_counts(targets: Sequence[Targets], num_classes: int) -> npt.NDArray[np.int64]:
    return np.stack([np.bincount(target[target >= 0], minlength=num_classes) for target in targets])


def _strokes(target: Targets, num_classes: int) -> npt.NDArray[np.int32]:
    """Return the number of the connected stroke that each pixel belongs to, from 0; -1 elsewhere."""
    numbers = np.full(target.shape, IGNORE, np.int32)
    count = 0
    for index in range(num_classes):
        labelled, found = ndimage.label(target == index, structure=np.ones((3, 3)))
        inside = labelled > 0
        numbers[inside] = labelled[inside] + (count - 1)
        count += found
    return numbers


def _blocks(target: Targets) -> npt.NDArray[np.int32]:
    """Return the number of the square block that each pixel lies in, from 0; about eight along the longer side."""
    side = max(1, -(-max(target.shape) // BLOCKS_PER_SIDE))
    rows, columns = (np.arange(size, dtype=np.int32) // side for size in target.shape)
    numbers: npt.NDArray[np.int32] = rows[:, None] * (columns[-1] + 1) + columns
    return numbers


def _piece_counts(target: Targets, pieces: npt.NDArray[np.int32], num_classes: int) -> npt.NDArray[np.int64]:
    """Count the pixels of each class in each piece."""
    labelled = (target >= 0) & (pieces >= 0)
    count = int(pieces.max()) + 1
    flat = pieces[labelled].astype(np.int64) * num_classes + target[labelled]
    return np.bincount(flat, minlength=count * num_classes).reshape(count, num_classes)
