"""How fresh weights are drawn: one rule per kind of parameter, as the paper gives them."""

from __future__ import annotations

import math

import torch
from torch import nn

from .blocks import Block, ClusterAttention
from .decoder import POINTS, Decoder, DeformableAttention
from .merging import ClusterMerge, NormMerge


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draw all weights of a network whose layers hold PyTorch's defaults.

    Linear layers behind a norm: Xavier uniform. Query, key and value: truncated normal 0.02. The second layer of an MLP keeps
    PyTorch's default, Kaiming uniform with ``a = sqrt(5)``. Blank tokens: normal 0.2. Query token and selection mark: normal
    0.02. Sampling starts as a star: direction by head, distance by point, the same for every query, evenly mixed.
    """
    for module in network.modules():
        if isinstance(module, Block):
            _xavier(module.fc1)
        elif isinstance(module, ClusterAttention):
            nn.init.trunc_normal_(module.qkv.weight, std=0.02)
            nn.init.zeros_(module.qkv.bias)
            nn.init.normal_(module.blank_key, std=0.2)
            nn.init.normal_(module.blank_value, std=0.2)
        elif isinstance(module, ClusterMerge):
            _xavier(module.linear)
        elif isinstance(module, NormMerge):
            _xavier(module.linear)
            nn.init.normal_(module.selected, std=0.02)
        elif isinstance(module, Decoder):
            nn.init.normal_(module.query_token, std=0.02)
        elif isinstance(module, DeformableAttention):
            # The rows behind these, values of the queries themselves, keep PyTorch's default.
            star = _star(module.heads).flatten()
            sampled = star.numel() * 3 // 2
            nn.init.zeros_(module.sampling.weight[:sampled])
            module.sampling.bias[:sampled] = torch.cat((star, torch.zeros(sampled - star.numel())))
    for head in getattr(network, "heads", {}).values():
        _xavier(head.linear)


def _xavier(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def _star(heads: int) -> torch.Tensor:
    """Return offsets ``[heads, POINTS, 2]``: one direction per head, scaled to max-norm 1, times 1..POINTS."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)
    return direction.unsqueeze(1) * torch.arange(1, POINTS + 1).view(1, POINTS, 1)
