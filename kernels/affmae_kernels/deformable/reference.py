"""Deformable attention in plain PyTorch. Float64-capable: the truth for every kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..neighbourhood import weighted_rows

POINT_NEIGHBOURS = 4
"""Tokens that a sampling point is interpolated from."""


def index_dtype(tokens: int) -> torch.dtype:
    """Return the smallest dtype that numbers so many tokens; kernels keep such ids for the backward pass."""
    return torch.int16 if tokens <= 1 << 15 else torch.int32


def deformable_attention_reference(
    value: Tensor, positions: Tensor, points: Tensor, mixing: Tensor, power: Tensor, neighbours: Tensor
) -> Tensor:
    """Compute what :func:`~affmae_kernels.deformable_attention` documents, given the neighbours ``[B, q, H, P, 4]``."""
    batch, count, heads, dim = value.shape
    _, queries, _, samples, near = neighbours.shape
    accumulate = torch.float64 if value.dtype == torch.float64 else torch.float32

    image = torch.arange(batch, device=value.device).view(batch, 1, 1, 1, 1)
    rows = neighbours + image * count
    place = positions.to(accumulate).reshape(-1, 2).index_select(0, rows.flatten()).view(*rows.shape, 2)
    distance = safe_norm(points.to(accumulate).unsqueeze(-2) - place)
    closeness = torch.softmax(-power.to(accumulate).clamp_min(1e-6) * (distance + 1e-6), dim=-1)
    weights = (mixing.to(accumulate).unsqueeze(-1) * closeness).reshape(batch, queries, heads, samples * near)

    head = torch.arange(heads, device=value.device).view(1, 1, heads, 1, 1)
    mixed = weighted_rows(
        value.reshape(batch * count * heads, dim),
        (rows * heads + head).view(-1, samples * near),
        weights.view(-1, samples * near).to(value.dtype),
    )
    return mixed.view(batch, queries, heads, dim)


def safe_norm(vectors: Tensor) -> Tensor:
    """Return the lengths of ``[..., 2]`` vectors, with gradient 0 (not NaN) where the length is 0."""
    squared = vectors.square().sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, squared, torch.ones_like(squared))), 0.0)
