"""The encoder's transformer block: cluster attention and an MLP, both residual."""

from __future__ import annotations

import torch
from affmae_kernels import cluster_attention, feed_forward
from torch import Tensor, nn

from .linear import Linear, Unbiased, together
from .neighbourhood import Neighbourhood
from .norm import Norm


class DropPath(nn.Module):
    """Drop the residual branch of whole images with probability ``rate`` while training, and scale the others up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch ``[B, n, D]``, dropped or scaled per image."""
        scale = self.scale(branch)
        return branch if scale is None else branch * scale.view(-1, 1, 1).to(branch.dtype)

    def scale(self, tokens: Tensor) -> Tensor | None:
        """Draw the factor of each image of ``[B, ...]``, float32 ``[B]``, or None if nothing is ever dropped."""
        if not self.training or self.rate == 0:
            return None
        keep = 1 - self.rate
        return (torch.rand(tokens.shape[0], device=tokens.device) < keep) / keep


class ClusterAttention(nn.Module):
    """Multi-head attention of every token to its neighbour clusters, with a position bias and one blank token per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)
        self.position_bias = nn.Linear(5, heads)
        self.blank_key = nn.Parameter(torch.empty(dim))
        self.blank_value = nn.Parameter(torch.empty(dim))
        self.proj = Unbiased(dim, dim)

    def forward(self, tokens: Tensor, around: Neighbourhood) -> Tensor:
        """Attend among tokens ``[B, n, D]`` in cluster order; the bias of ``proj`` is still to be added."""
        batch, count, dim = tokens.shape
        head_dim = dim // self.heads
        query, keys_and_values = together(tokens, self.q, self.kv)
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


class Block(nn.Module):
    """``x += attention(LN(x))``; ``x += MLP(LN(x))``, both branches with DropPath."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = Norm(dim)
        self.attention = ClusterAttention(dim, heads)
        self.norm2 = Norm(dim)
        self.fc1 = Linear(dim, mlp_dim)
        self.fc2 = Linear(mlp_dim, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, around: Neighbourhood) -> Tensor:
        """Transform tokens ``[B, n, D]`` in cluster order."""
        attended = self.attention(self.norm1(tokens), around)
        tokens, normed = self.norm2.after(tokens, attended, self.attention.proj, scale=self.drop_path.scale(tokens))
        hidden = feed_forward(normed, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias, "gelu")
        output: Tensor = tokens + self.drop_path(hidden)
        return output
