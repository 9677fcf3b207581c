"""Cluster attention in plain PyTorch: gather, multiply, softmax, sum. Float64-capable: the truth for every kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..neighbourhood import gather_rows, member_rows, weighted_rows
from ..relative import relative_features


def cluster_attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    positions: Tensor,
    clusters: Tensor | None,
    cluster_size: int,
    bias_weight: Tensor,
    bias: Tensor,
    blank_key: Tensor,
    blank_value: Tensor,
) -> Tensor:
    """Compute what :func:`~affmae_kernels.cluster_attention` documents."""
    scale = query.shape[-1] ** -0.5
    accumulate = torch.float64 if query.dtype == torch.float64 else torch.float32
    query = query * scale

    if clusters is None:
        offsets = positions.unsqueeze(1) - positions.unsqueeze(2)
        logits = torch.einsum("bnhd,bmhd->bnhm", query, key).to(accumulate)
    else:
        rows, real = member_rows(clusters, cluster_size, key.shape[1])
        offsets = gather_rows(positions, rows) - positions.unsqueeze(2)
        keys = gather_rows(key, rows)
        logits = torch.einsum("bnhd,bnmhd->bnhm", query, keys).to(accumulate)

    features = relative_features(offsets.to(accumulate))
    logits = logits + torch.einsum("bnmf,hf->bnhm", features, bias_weight.to(accumulate))
    logits = logits + bias.to(accumulate).unsqueeze(-1)
    if clusters is not None:
        logits = logits.masked_fill(~real.unsqueeze(2), -torch.inf)
    blank_logit = torch.einsum("bnhd,hd->bnh", query, blank_key.to(query.dtype)).to(accumulate)

    weights = torch.softmax(torch.cat((logits, blank_logit.unsqueeze(-1)), dim=-1), dim=-1)
    near, blank = weights[..., :-1].to(value.dtype), weights[..., -1:].to(value.dtype)
    mixed = torch.einsum("bnhm,bmhd->bnhd", near, value) if clusters is None else _mix(near, value, rows)
    return mixed + blank * blank_value.to(value.dtype)


def _mix(weights: Tensor, value: Tensor, rows: Tensor) -> Tensor:
    """Sum ``value [B, n, H, d]`` over neighbours ``rows [B, n, M]`` with ``weights [B, n, H, M]``: ``[B, n, H, d]``."""
    batch, count, heads, dim = value.shape
    image = torch.arange(batch, device=value.device).view(batch, 1, 1, 1) * count
    head = torch.arange(heads, device=value.device).view(1, 1, heads, 1)
    address = (rows.unsqueeze(2) + image) * heads + head
    reach = rows.shape[-1]
    mixed = weighted_rows(value.reshape(-1, dim), address.view(-1, reach), weights.reshape(-1, reach))
    return mixed.view(batch, count, heads, dim)
