"""Fit trees to painted pixels: each question is the best of a few random ones, for all leaves of its tree at once.

Random questions make trees differ, so that their mean errs less (extremely randomised trees: Geurts, Ernst and Wehenkel,
Machine Learning 63, 2006); one question for all leaves of a level keeps a tree from learning a stroke by heart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.trees import DEPTH, TREES, Trees

_CANDIDATES = 4
"""Questions that one is chosen from."""


@torch.no_grad()
def fit_trees(trees: Trees, rows: Tensor, classes: Tensor, weights: Tensor, seed: int) -> None:
    """Fit all members of a committee.

    On the CPU, wherever the trees are: the rows are few, and a card would add up in an order of its own.

    Parameters
    ----------
    trees
        The committee, which is filled.
    rows
        float32 ``[n, F]``, what is known about each pixel.
    classes
        int64 ``[n]``, 0 to K - 1.
    weights
        float32 ``[M, n]``, how much each pixel counts for each member, not negative; pixels of weight 0 are not seen.
    seed
        The same paint and seed give the same trees.
    """
    device, classes_total = trees.leaves.device, trees.leaves.shape[-1]
    rows, classes = rows.float().cpu(), classes.cpu()
    weights = weights.float().cpu().repeat_interleave(TREES, dim=0)
    total, pixels = weights.shape
    generator = torch.Generator().manual_seed(seed)
    leaf = torch.zeros(total, pixels, dtype=torch.int64)
    every = torch.arange(total)
    features, thresholds = [], []
    for level in range(DEPTH):
        feature = torch.randint(rows.shape[1], (total, _CANDIDATES), generator=generator)
        threshold = _between(rows, feature, weights, generator)
        above = rows.T[feature] > threshold[..., None]
        reached = 2 * leaf[:, None] + above
        size = 2 ** (level + 1)
        counts = torch.zeros(total, _CANDIDATES, size * classes_total)
        counts.scatter_add_(2, reached * classes_total + classes, weights[:, None].expand_as(reached))
        counts = counts.view(total, _CANDIDATES, size, classes_total)
        # Gini: the part of the weight that a guess by the leaf's own frequencies gets right.
        right = (counts.square().sum(-1) / counts.sum(-1).clamp_min(1e-12)).sum(-1)
        best = right.argmax(dim=1)
        features.append(feature[every, best])
        thresholds.append(threshold[every, best])
        leaf = reached[every, best]
        found = counts[every, best]
    shape = (len(trees.leaves), TREES)
    trees.feature.copy_(torch.stack(features, dim=1).view(*shape, DEPTH))
    trees.threshold.copy_(torch.stack(thresholds, dim=1).view(*shape, DEPTH))
    trees.leaves.copy_(_probabilities(found, weights).view(*shape, *found.shape[1:]).to(device))


def _between(rows: Tensor, feature: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return thresholds ``[trees, candidates]``, each at random between the values of two random pixels."""
    count = feature.shape[1]
    ends = torch.multinomial(weights, 2 * count, replacement=True, generator=generator)
    one, other = rows[ends[:, :count], feature], rows[ends[:, count:], feature]
    return one + torch.rand(feature.shape, generator=generator) * (other - one)


def _probabilities(counts: Tensor, weights: Tensor) -> Tensor:
    """Return the probabilities of classes in leaves ``[trees, leaves, K]``; what a leaf did not see is as it is overall."""
    frequencies = counts.sum(dim=1, keepdim=True)
    frequencies = frequencies / frequencies.sum(dim=-1, keepdim=True)
    one_pixel = (weights.sum(dim=1) / (weights > 0).sum(dim=1))[:, None, None]
    return (counts + one_pixel * frequencies) / (counts.sum(dim=-1, keepdim=True) + one_pixel)
