"""Committees of small decision trees that ask all pixels the same few questions: fitted in an instant, hard to mislead.

A tree has ``DEPTH`` questions, "is this number above that threshold?". The answers, read as bits, name one of ``2 ** DEPTH``
leaves, and a leaf knows how often each class was painted there. A pixel far from all paint still falls into a leaf that
saw some; a network would extrapolate instead.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TREES = 24
"""Trees per member of a committee."""

DEPTH = 6

_LEAST = 1e-3
"""Of a probability: a few trees that never saw a class somewhere are no proof that it is not there."""


class Trees(nn.Module):
    """Members of ``TREES`` trees each, whose leaves are averaged.

    Parameters
    ----------
    members
        M.
    classes
        K.

    Attributes
    ----------
    feature
        int64 ``[M, TREES, DEPTH]``: the number that each question looks at.
    threshold
        float32 ``[M, TREES, DEPTH]``.
    leaves
        float32 ``[M, TREES, 2 ** DEPTH, K]``: probabilities; the first question is the highest bit.
    """

    feature: Tensor
    threshold: Tensor
    leaves: Tensor
    first: Tensor

    def __init__(self, members: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("feature", torch.zeros(members, TREES, DEPTH, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(members, TREES, DEPTH))
        self.register_buffer("leaves", torch.full((members, TREES, 2**DEPTH, classes), 1 / classes))
        # Of each tree the first leaf, all trees' leaves in a row.
        self.register_buffer("first", 2**DEPTH * torch.arange(TREES, dtype=torch.int32), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logarithms of probabilities ``[M, n, K]`` of ``[n, F]``."""
        return torch.stack([self._member(member, rows.T) for member in range(len(self.feature))])

    def map(self, member: int, maps: Tensor) -> Tensor:
        """Return a member's logarithms of probabilities ``[B, K, H, W]`` of maps ``[B, F, H, W]``."""
        batch, _, height, width = maps.shape
        found = self._member(member, maps.movedim(1, 0).flatten(1))
        return found.view(batch, height, width, -1).movedim(-1, 1)

    def _member(self, member: int, values: Tensor) -> Tensor:
        """Return ``[n, K]`` of values ``[F, n]``."""

        def yes(question: int) -> Tensor:
            asked = values.index_select(0, self.feature[member, :, question])
            return asked > self.threshold[member, :, question, None]

        # Narrow integers, changed in place: this runs over all pixels, and is bound by memory.
        leaf = yes(0).to(torch.int32)
        for question in range(1, DEPTH):
            leaf.mul_(2).add_(yes(question))
        leaf.add_(self.first[:, None])
        mean = functional.embedding_bag(leaf.T.contiguous(), self.leaves[member].flatten(0, 1), mode="mean")
        return mean.clamp_min(_LEAST).log()
