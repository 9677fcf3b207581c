"""Cluster attention in plain PyTorch: gather, multiply, softmax, sum. Float64-capable: the truth for every kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..neighbourhood import gather_rows, member_rows
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
    if clusters is None:
        mixed = torch.einsum("bnhm,bmhd->bnhd", near, value)
    else:
        mixed = torch.einsum("bnhm,bnmhd->bnhd", near, gather_rows(value, rows))
    return mixed + blank * blank_value.to(value.dtype)
