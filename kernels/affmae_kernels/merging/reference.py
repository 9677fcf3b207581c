"""Token merging in plain PyTorch. Float64-capable: the truth for every kernel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..neighbourhood import gather_rows, member_rows, weighted_rows
from ..relative import relative_features


def token_merge_reference(
    tokens: Tensor,
    scores: Tensor,
    positions: Tensor,
    survivors: Tensor,
    clusters: Tensor | None,
    cluster_size: int,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
) -> Tensor:
    """Compute what :func:`~affmae_kernels.token_merge` documents."""
    batch, count, dim = tokens.shape
    accumulate = torch.float64 if tokens.dtype == torch.float64 else torch.float32
    place = positions.to(accumulate)
    own = place.gather(1, survivors.unsqueeze(-1).expand(-1, -1, 2))
    if clusters is None:
        rows = torch.arange(count, device=tokens.device).expand(batch, survivors.shape[1], count)
        real = torch.ones_like(rows, dtype=torch.bool)
    else:
        mine = clusters.gather(1, survivors.unsqueeze(-1).expand(-1, -1, clusters.shape[-1]))
        rows, real = member_rows(mine, cluster_size, count)
    features = relative_features(gather_rows(place, rows) - own.unsqueeze(2))
    hidden = functional.linear(features, weight.to(accumulate), bias.to(accumulate))
    hidden = functional.layer_norm(hidden, (hidden.shape[-1],), norm_weight.to(accumulate), norm_bias.to(accumulate), eps)
    weights = functional.gelu(hidden) * (gather_rows(scores.to(accumulate), rows) * real).unsqueeze(-1)
    image = torch.arange(batch, device=tokens.device).view(batch, 1, 1) * count
    kinds = weights.shape[-1]
    bags = (rows + image).unsqueeze(2).expand(-1, -1, kinds, -1).reshape(-1, rows.shape[-1])
    merged = weighted_rows(
        tokens.reshape(batch * count, dim), bags, weights.transpose(2, 3).reshape(bags.shape).to(tokens.dtype)
    )
    return merged.view(batch, survivors.shape[1], kinds * dim)
