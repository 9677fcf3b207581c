"""The search as one reads it: all distances, a stable sort, the first k."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_reference(points: Tensor, sites: Tensor, k: int) -> Tensor:
    """Return the ids of the k sites ``[B, n, 2]`` closest to each point ``[B, P, 2]``: int64 ``[B, P, k]``."""
    difference = points.unsqueeze(2) - sites.unsqueeze(1)
    distance = difference.square().sum(-1)
    return torch.sort(distance, dim=-1, stable=True).indices[..., :k]
