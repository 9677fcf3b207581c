"""From lists of neighbour clusters to lists of neighbour tokens.

Tokens are kept in cluster order, so cluster ``c`` is the rows ``c·m .. c·m + m - 1``; only the last one can be short.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def member_rows(clusters: Tensor, cluster_size: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Return the token rows of each listed cluster, and which of them are real.

    Parameters
    ----------
    clusters
        int64 ``[B, n, c]``, ids of neighbour clusters.
    cluster_size
        Tokens per cluster, ``m``.
    tokens
        Number of tokens; rows beyond it are padding.

    Returns
    -------
    rows
        int64 ``[B, n, c·m]``; padding points at row 0, so that it can be gathered safely.
    real
        bool ``[B, n, c·m]``.
    """
    members = torch.arange(cluster_size, device=clusters.device)
    rows = (clusters.unsqueeze(-1) * cluster_size + members).flatten(-2)
    real = rows < tokens
    return torch.where(real, rows, torch.zeros_like(rows)), real


def gather_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Gather rows of ``values [B, n, ...]`` by ``rows [B, q, M]`` into ``[B, q, M, ...]``."""
    batch, count = values.shape[:2]
    base = torch.arange(batch, device=values.device).view(batch, 1, 1) * count
    flat = values.reshape(batch * count, *values.shape[2:])
    return flat.index_select(0, (rows + base).flatten()).view(*rows.shape, *values.shape[2:])


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Return ``sum_j weights[i, j] · table[rows[i, j]]``, ``[I, D]``, without holding the gathered rows, forward or backward.

    Parameters
    ----------
    table
        ``[N, D]``.
    rows, weights
        ``[I, J]``, int64 and of the table's dtype.
    """
    # In float32 at least: torch has no gradient of half-precision weights here, and sums of many rows want the precision.
    wide = torch.promote_types(table.dtype, torch.float32)
    return functional.embedding_bag(rows, table.to(wide), per_sample_weights=weights.to(wide), mode="sum").to(table.dtype)
