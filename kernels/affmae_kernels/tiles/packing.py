"""Which tiles meet, and how the counts of a key tile's clusters fit into one integer per query. Imports no Triton."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._blocks import TILE

MOST_BITS = 8


class ClusterTiles(NamedTuple):
    """Which tiles meet.

    Attributes
    ----------
    lists, counts
        int32 ``[B, query tiles, width]`` and ``[B, query tiles]``: the key tiles of each query tile in ascending order, and
        how many there are.
    times
        int32 or int64 ``[B, query tiles, width, QUERIES]``, packed counts next to each entry; see :class:`.Packing`.
    key_lists, key_slots, key_counts
        int32 and int16 ``[B, key tiles, query tiles]``, and int32 ``[B, key tiles]``: the query tiles of each key tile, the
        place of this key tile in the list of that query tile, and how many there are.
    """

    lists: Tensor
    counts: Tensor
    times: Tensor
    key_lists: Tensor
    key_slots: Tensor
    key_counts: Tensor


@dataclass(frozen=True)
class Packing:
    """A few bits per cluster of a key tile, below a top bit that stays empty.

    Attributes
    ----------
    cluster_size
        Tokens per cluster.
    bits
        Bits per count.
    dtype
        int32, or int64 where that is too narrow.
    """

    cluster_size: int
    bits: int
    dtype: torch.dtype

    @property
    def tiles_per_cluster(self) -> int:
        """Return how many key tiles a cluster can lie in."""
        return 1 if TILE % self.cluster_size == 0 else (self.cluster_size + TILE - 2) // TILE + 1

    @property
    def constants(self) -> dict[str, Any]:
        """Return what a kernel must know to read counts."""
        width = 31 if self.dtype == torch.int32 else 63
        return {"CLUSTER": self.cluster_size, "BITS": self.bits, "MASK": (1 << self.bits) - 1, "TOP": width}


def fitting(cluster_size: int, near: int) -> Packing | None:
    """Choose a packing for queries that list ``near`` clusters each, or None if none is wide enough."""
    aligned = TILE % cluster_size == 0
    per_tile = TILE // cluster_size if aligned else (TILE + cluster_size - 2) // cluster_size + 1
    for width, dtype in ((31, torch.int32), (63, torch.int64)):
        bits = min(MOST_BITS, width // per_tile)
        if near < 1 << bits:
            return Packing(cluster_size, bits, dtype)
    return None


def packing_limit(clusters: Tensor | None, cluster_size: int) -> str | None:
    """Return why the kernels cannot take such clusters ``[B, q, c]``, or None if they can."""
    if clusters is None or fitting(cluster_size, clusters.shape[-1]) is not None:
        return None
    return f"{clusters.shape[-1]} clusters of {cluster_size} per token; the kernels count so many only of larger clusters"


def packing_of(clusters: Tensor | None, cluster_size: int) -> Packing:
    """Return the packing for clusters that :func:`packing_limit` has nothing against; any where every token meets all."""
    packed = fitting(TILE, 1) if clusters is None else fitting(cluster_size, clusters.shape[-1])
    if packed is None:
        raise ValueError(packing_limit(clusters, cluster_size))
    return packed
