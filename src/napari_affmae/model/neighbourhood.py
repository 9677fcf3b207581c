"""What a stage knows about the places of its tokens: computed once per stage, used by its blocks and its merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from affmae_kernels import ClusterTiles, cluster_tiles
from torch import Tensor

from .geometry import cluster_order, neighbour_clusters
from .patch_embedding import gather_tokens


@dataclass(frozen=True)
class Neighbourhood:
    """Places and neighbours of the tokens of one stage, in cluster order.

    Attributes
    ----------
    positions
        ``[B, n, 2]``, ``(x, y)`` in patches.
    clusters
        int64 ``[B, n, c]``, the clusters that each token attends to, or None for all tokens.
    cluster_size
        Tokens per cluster.
    tiles
        What the attention of every block prepares from the clusters alone.
    """

    positions: Tensor
    clusters: Tensor | None
    cluster_size: int
    tiles: ClusterTiles | None

    @classmethod
    def arrange(
        cls, tokens: Tensor, positions: Tensor, cluster_size: int, neighbourhood: int, grid: tuple[int, int]
    ) -> tuple[Tensor, Self]:
        """Bring tokens ``[B, n, D]`` into cluster order and find the neighbours of each."""
        order = cluster_order(positions, cluster_size, grid)
        tokens, positions = gather_tokens(tokens, order), gather_tokens(positions, order)
        clusters = neighbour_clusters(positions, cluster_size, neighbourhood)
        return tokens, cls(positions, clusters, cluster_size, cluster_tiles(clusters, cluster_size, tokens))
