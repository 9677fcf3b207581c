"""The finetuning loss: cross-entropy and soft Dice on painted pixels, on the main head and, lightly, on the auxiliary ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..data.labels import IGNORE
from ..model.mae import LOSS_WEIGHTS
from ..model.segmenter import SegmenterOutput

_SMOOTH = 10.0
"""Pixels added to both sides of the Dice quotient, so that a class with a handful of painted pixels does not dominate."""

_MOST_WEIGHT = 5.0


def class_weights(pixels: npt.NDArray[np.int64]) -> Tensor:
    """Return a weight per class, float32 ``[K]``, from its number of painted pixels.

    The inverse square root of the frequency, at most 5 times that of the most frequent class: rare classes count more, but a
    handful of pixels do not count as much as all others together. The weights average to 1 over the painted pixels.
    """
    counts = torch.from_numpy(pixels.astype(np.float64))
    weights = (counts.max() / counts.clamp_min(1)).sqrt().clamp_max(_MOST_WEIGHT)
    return (weights * counts.sum() / (weights * counts).sum()).float()


def painted_per_tile(targets: Tensor) -> Tensor:
    """Return for each tile of a batch ``[B, H, W]`` how many pixels are painted in the mean, float32 ``[B]``.

    A part of the batch then knows what its cross-entropy is to be divided by, for parts to add up to the whole. Without paint
    it is as if there were one pixel in all.
    """
    return (targets != IGNORE).sum().clamp_min(1).div(len(targets)).expand(len(targets))


def finetune_loss(
    output: SegmenterOutput, targets: Tensor, weights: Tensor, focus: float = 0.0, per_tile: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a batch and its parts before weighting.

    Parameters
    ----------
    output
        Logits ``[B, K, H, W]`` of the three heads.
    targets
        int64 ``[B, H, W]``: class indices, -1 where nothing is painted.
    weights
        ``[K]``, of the cross-entropy.
    focus, per_tile
        As in :func:`masked_cross_entropy`.

    Returns
    -------
    loss, parts
        Scalars: ``res2 + 0.12 · res4 + 0.05 · res5``, each the sum of ``cross_entropy`` and ``dice``; the latter two are given
        for the main head.
    """
    cross_entropy, dice = _both(output.logits, targets, weights, focus, per_tile)
    heads = {"res2": cross_entropy + dice}
    for name, logits in output.aux.items():
        heads[name] = torch.stack(_both(logits, targets, weights, focus, per_tile)).sum()
    total = torch.stack([LOSS_WEIGHTS[name] * loss for name, loss in heads.items()]).sum()
    return total, {"cross_entropy": cross_entropy, "dice": dice, **heads}


def _both(logits: Tensor, targets: Tensor, weights: Tensor, focus: float, per_tile: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = logits.float()
    return masked_cross_entropy(logits, targets, weights, focus, per_tile), soft_dice_loss(logits, targets)


def masked_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, focus: float = 0.0, per_tile: Tensor | None = None
) -> Tensor:
    """Return the weighted cross-entropy per painted pixel; 0 where nothing is painted.

    Divided by the number of painted pixels, not by the sum of their weights.

    Parameters
    ----------
    logits, targets, weights
        As in :func:`finetune_loss`.
    focus
        Each pixel counts by ``(1 - p) ** focus``, where p is the probability that its class got, so that what is known already
        counts less; 0 for the plain cross-entropy. Source: T.-Y. Lin et al., "Focal loss" (ICCV 2017).
    per_tile
        What :func:`painted_per_tile` says of these tiles, if they are a part of a batch; None counts in them.
    """
    painted = (targets != IGNORE).sum().clamp_min(1) if per_tile is None else per_tile.sum()
    if focus == 0:
        return functional.cross_entropy(logits, targets, weight=weights, ignore_index=IGNORE, reduction="sum") / painted
    surprise = functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    doubt = -torch.expm1(-surprise)  # 1 - p; an exact 0 would have no gradient to the power of focus
    weighted = weights[targets.clamp_min(0)] * doubt.clamp_min(1e-6) ** focus * surprise
    return weighted.sum() / painted


def soft_dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - the mean Dice coefficient of the classes painted in the batch, over painted pixels alone; 0 without paint.

    It is no sum over tiles: a batch that goes through in parts has the mean of theirs.

    Source: F. Milletari et al., "V-Net" (3DV 2016), with plain sums in the denominator.
    """
    painted = (targets != IGNORE).unsqueeze(1)
    truth = functional.one_hot(targets.clamp_min(0), logits.shape[1]).movedim(-1, 1) * painted
    probabilities = logits.softmax(dim=1) * painted
    axes = (0, 2, 3)
    hits = (probabilities * truth).sum(axes)
    sizes = truth.sum(axes)
    dice = (2 * hits + _SMOOTH) / (probabilities.sum(axes) + sizes + _SMOOTH)
    present = (sizes > 0).float()
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)
