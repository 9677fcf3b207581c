"""The search as one reads it: all distances, a stable sort, the first k."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_reference(points: Tensor, sites: Tensor, k: int) -> Tensor:
    """Return the ids of the k sites closest to each point: int64 ``[B, P, k]`` for points ``[B, P, 2]``, sites ``[B, n, 2]``."""
    difference = points.unsqueeze(2) - sites.unsqueeze(1)
    distance = difference.square().sum(-1)
    return torch.sort(distance, dim=-1, stable=True).indices[..., :k]
