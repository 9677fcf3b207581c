"""Two ways to the next stage: merge neighbourhoods by learned scores, or keep the tokens of largest norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from affmae_kernels import token_merge
from torch import Tensor, nn
from torch.nn import functional

from ..model_config import Selection
from .linear import Linear
from .neighbourhood import Neighbourhood
from .norm import Norm
from .patch_embedding import gather_tokens
from .residual import Residual

WEIGHTS = 4
"""Merge weights per neighbour."""

LastBlock = Callable[[Residual], Residual]
"""The last block of the stage, which runs inside the merge: what is chosen before it may be marked."""


def survivor_count(tokens: int, rate: float) -> int:
    """Return how many of ``tokens`` survive a merge: ``int(n · rate)``, at least one."""
    return max(1, int(tokens * rate))


def above_neighbours(values: Tensor, around: Neighbourhood) -> Tensor:
    """Return values ``[B, n]`` of tokens less the mean of the tokens that each attends to; unchanged if that is all of them."""
    if around.clusters is None:
        return values
    size, clusters = around.cluster_size, around.clusters

    def sums(of: Tensor) -> Tensor:
        batch, tokens = of.shape
        by_cluster = functional.pad(of, (0, -tokens % size)).view(batch, -1, size).sum(-1)
        return by_cluster.gather(1, clusters.flatten(1)).view(clusters.shape).sum(-1)

    return values - sums(values) / sums(torch.ones_like(values))


class ClusterMerge(nn.Module):
    """Score all tokens; the best survive, in their old order, and gather their attention neighbourhood.

    The choice itself has no gradient: the scores learn because they weight what the survivors gather. So nothing keeps them
    from following the place of a token more than its content; ``selection="local"`` compares each with its neighbourhood only.
    """

    def __init__(self, dim: int, next_dim: int, rate: float, selection: Selection = "global") -> None:
        super().__init__()
        self.rate = rate
        self.selection = selection
        self.score = nn.Linear(dim, 1)
        self.weight = nn.Linear(5, WEIGHTS)
        self.weight_norm = nn.LayerNorm(WEIGHTS)
        self.norm = Norm(WEIGHTS * dim)
        self.linear = Linear(WEIGHTS * dim, next_dim)

    def forward(
        self, stream: Residual, around: Neighbourhood, last_block: LastBlock, norm: Norm
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the stage's last block, then merge: the stage's normed tokens, and the survivors with their positions."""
        tokens, normed = last_block(stream).normed(norm)
        # Scores decide who survives, so half precision would change the network, not only its rounding.
        with torch.autocast(tokens.device.type, enabled=False):
            logits = self.score(tokens.to(self.score.weight.dtype)).squeeze(-1)
            scores = torch.sigmoid(logits)
        count = survivor_count(tokens.shape[1], self.rate)
        rank = above_neighbours(logits.detach(), around) if self.selection == "local" else scores.detach()
        best = rank.sort(dim=1, descending=True, stable=True).indices[:, :count]
        survivors = best.sort(dim=1).values
        merged = token_merge(
            tokens,
            scores,
            around.positions,
            survivors,
            around.clusters,
            around.cluster_size,
            self.weight.weight,
            self.weight.bias,
            self.weight_norm.weight,
            self.weight_norm.bias,
            self.weight_norm.eps,
        )
        return normed, self.linear(self.norm(merged)), gather_tokens(around.positions, survivors)


class NormMerge(nn.Module):
    """Token pruning: the tokens of largest L2 norm before the last block are marked, pass it, and go on in falling order."""

    def __init__(self, dim: int, next_dim: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.selected = nn.Parameter(torch.empty(1, 1, dim))
        self.norm = Norm(dim)
        self.linear = Linear(dim, next_dim)

    def forward(
        self, stream: Residual, around: Neighbourhood, last_block: LastBlock, norm: Norm
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`ClusterMerge.forward`."""
        tokens = stream.added()
        count = survivor_count(tokens.shape[1], self.rate)
        norms = torch.linalg.vector_norm(tokens.detach().to(self.norm.weight.dtype), dim=-1)
        survivors = norms.sort(dim=1, descending=True, stable=True).indices[:, :count]
        # 1 and not True: a trace cannot hold a bool here.
        chosen = torch.zeros_like(norms, dtype=torch.bool).scatter_(1, survivors, 1)
        tokens, normed = last_block(Residual(tokens + self.selected * chosen.unsqueeze(-1))).normed(norm)
        kept = gather_tokens(tokens, survivors)
        return normed, self.linear(self.norm(kept)), gather_tokens(around.positions, survivors)
