"""The encoder's transformer block: cluster attention and an MLP, both residual."""

from __future__ import annotations

import torch
from affmae_kernels import cluster_attention
from torch import Tensor, nn
from torch.nn import functional

from .neighbourhood import Neighbourhood


class DropPath(nn.Module):
    """Drop the residual branch of whole images with probability ``rate`` while training, and scale the others up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch ``[B, ...]``, dropped or scaled per image."""
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        mask = torch.rand(branch.shape[0], *[1] * (branch.dim() - 1), device=branch.device) < keep
        return branch * mask / keep


class ClusterAttention(nn.Module):
    """Multi-head attention of every token to its neighbour clusters, with a position bias and one blank token per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.position_bias = nn.Linear(5, heads)
        self.blank_key = nn.Parameter(torch.empty(dim))
        self.blank_value = nn.Parameter(torch.empty(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, around: Neighbourhood) -> Tensor:
        """Attend among tokens ``[B, n, D]`` in cluster order."""
        batch, count, dim = tokens.shape
        head_dim = dim // self.heads
        query = self.q(tokens).view(batch, count, self.heads, head_dim)
        key, value = self.kv(tokens).view(batch, count, self.heads, 2 * head_dim).split(head_dim, dim=-1)
        mixed = cluster_attention(
            query,
            key,
            value,
            around.positions,
            around.clusters,
            around.cluster_size,
            self.position_bias.weight,
            self.position_bias.bias,
            self.blank_key.view(self.heads, head_dim),
            self.blank_value.view(self.heads, head_dim),
        )
        output: Tensor = self.proj(mixed.reshape(batch, count, dim))
        return output


class Block(nn.Module):
    """``x += attention(LN(x))``; ``x += MLP(LN(x))``, both branches with DropPath."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = ClusterAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, around: Neighbourhood) -> Tensor:
        """Transform tokens ``[B, n, D]`` in cluster order."""
        tokens = tokens + self.drop_path(self.attention(self.norm1(tokens), around))
        output: Tensor = tokens + self.drop_path(self.fc2(functional.gelu(self.fc1(self.norm2(tokens)))))
        return output
