"""The encoder's transformer block: cluster attention and an MLP, both residual."""

from __future__ import annotations

import torch
from affmae_kernels import cluster_attention, feed_forward
from torch import Tensor, nn

from .linear import Linear, Unbiased
from .neighbourhood import Neighbourhood
from .norm import Norm
from .residual import Branch, Residual


class ClusterAttention(nn.Module):
    """Multi-head attention of every token to its neighbour clusters, with a position bias and one blank token per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim)
        """Rows: the queries of all heads; then per head keys and values."""
        self.position_bias = nn.Linear(5, heads)
        self.blank_key = nn.Parameter(torch.empty(dim))
        self.blank_value = nn.Parameter(torch.empty(dim))
        self.proj = Unbiased(dim, dim)

    def forward(self, tokens: Tensor, around: Neighbourhood) -> Tensor:
        """Attend among tokens ``[B, n, D]`` in cluster order; the bias of ``proj`` is still to be added."""
        batch, count, dim = tokens.shape
        head_dim = dim // self.heads
        query, keys_and_values = torch.split(self.qkv(tokens), [dim, 2 * dim], dim=-1)
        key, value = torch.split(keys_and_values.view(batch, count, self.heads, 2 * head_dim), head_dim, dim=-1)
        mixed = cluster_attention(
            query.view(batch, count, self.heads, head_dim),
            key,
            value,
            around.positions,
            around.clusters,
            around.cluster_size,
            self.position_bias.weight,
            self.position_bias.bias,
            self.blank_key.view(self.heads, head_dim),
            self.blank_value.view(self.heads, head_dim),
            around.tiles,
        )
        output: Tensor = self.proj(mixed.reshape(batch, count, dim))
        return output


Scales = tuple[Tensor | None, Tensor | None]
"""Factors of the two branches of a block for each image, float32 ``[B]``; None where nothing is ever dropped."""


class Block(nn.Module):
    """``x += attention(LN(x))``; ``x += MLP(LN(x))``, both branches with DropPath."""

    def __init__(self, dim: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = Norm(dim)
        self.attention = ClusterAttention(dim, heads)
        self.norm2 = Norm(dim)
        self.fc1 = Linear(dim, mlp_dim)
        self.fc2 = Unbiased(mlp_dim, dim)

    def forward(self, stream: Residual, around: Neighbourhood, scales: Scales) -> Residual:
        """Transform tokens ``[B, n, D]`` in cluster order."""
        tokens, normed = stream.normed(self.norm1)
        attended = self.attention(normed, around)
        tokens, normed = self.norm2.after(tokens, attended, self.attention.proj, scale=scales[0])
        hidden = feed_forward(normed, self.fc1.weight, self.fc1.bias, self.fc2.weight, None, "gelu")
        return Residual(tokens, Branch(hidden, self.fc2, scales[1]))
