"""Cluster attention of few tokens in PyTorch: all pairs and a mask; one product beats gathering 64 keys for every token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..relative import relative_features

FEW = 640
"""Tokens up to which the table of all pairs is faster than gathering neighbours, on CPUs."""


def cluster_attention_dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    positions: Tensor,
    clusters: Tensor,
    cluster_size: int,
    bias_weight: Tensor,
    bias: Tensor,
    blank_key: Tensor,
    blank_value: Tensor,
) -> Tensor:
    """Compute what :func:`~affmae_kernels.cluster_attention` documents, from logits ``[B, H, n, n + 1]``."""
    tokens, dim = query.shape[1], query.shape[3]
    accumulate = torch.float64 if query.dtype == torch.float64 else torch.float32

    features = relative_features((positions.unsqueeze(1) - positions.unsqueeze(2)).to(accumulate))
    slopes = torch.cat((bias_weight, bias.unsqueeze(1)), dim=1).to(accumulate)
    # The constant feature carries the bias; for the blank token, the last key, all features are 0.
    features = functional.pad(features, (0, 1), value=1.0)
    extra = torch.einsum("bijf,hf->bhij", features, slopes)
    extra = functional.pad(extra + _listed(clusters, cluster_size, tokens).to(accumulate).log().unsqueeze(1), (0, 1))

    keys = _with_blank(key, blank_key)
    values = _with_blank(value, blank_value)
    logits = torch.matmul(query.transpose(1, 2) * dim**-0.5, keys.transpose(2, 3)).to(accumulate) + extra
    return torch.matmul(torch.softmax(logits, dim=-1).to(value.dtype), values).transpose(1, 2)


def _listed(clusters: Tensor, cluster_size: int, tokens: int) -> Tensor:
    """Return how often each token lists the cluster of each other token, ``[B, n, n]``; the logarithm of 0 masks."""
    batch, count, _ = clusters.shape
    times = torch.zeros(batch, count, -(-tokens // cluster_size), device=clusters.device)
    times.scatter_add_(2, clusters, torch.ones((), device=clusters.device).expand(clusters.shape))
    return times.repeat_interleave(cluster_size, dim=2)[..., :tokens]


def _with_blank(rows: Tensor, blank: Tensor) -> Tensor:
    """Return ``[B, H, n + 1, d]``: rows ``[B, n, H, d]`` and the blank token of each head behind them."""
    last = blank.to(rows.dtype).expand(rows.shape[0], 1, -1, -1)
    return torch.cat((rows, last), dim=1).transpose(1, 2)
