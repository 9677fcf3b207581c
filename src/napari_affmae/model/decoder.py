"""The decoder: queries at patches look at themselves and at one encoder stage per block, deepest first."""

from __future__ import annotations

import torch
from affmae_kernels import deformable_attention
from torch import Tensor, nn
from torch.nn import functional

from ..config import STAGES, ModelConfig
from .encoder import Stage
from .geometry import position_code

POINTS = 4
"""Sampling points per query and head."""

DROPOUT = 0.1


class DeformableAttention(nn.Module):
    """Multi-head attention that samples 4 learned points per head, each interpolated from its nearest tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.sampling_offsets = nn.Linear(dim, heads * POINTS * 2)
        self.mixing = nn.Linear(dim, heads * POINTS)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.power = nn.Parameter(torch.ones(()))

    def forward(
        self, queries: Tensor, query_places: Tensor, source: Tensor, source_places: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Attend from queries ``[B, q, D]`` at ``[B, q, 2]`` to source tokens ``[B, n, D]`` at ``[B, n, 2]``."""
        batch, count, dim = queries.shape
        offsets = self.sampling_offsets(queries).view(batch, count, self.heads, POINTS, 2)
        mixing = self.mixing(queries).view(batch, count, self.heads, POINTS).softmax(-1)
        value = self.value(source).view(batch, source.shape[1], self.heads, dim // self.heads)
        points = query_places[:, :, None, None] + offsets
        sampled = deformable_attention(value, source_places, points, mixing, self.power, grid)
        output: Tensor = self.output(sampled.reshape(batch, count, dim))
        return output


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to one stage, and a feed-forward layer, each followed by its norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.self_attention = DeformableAttention(dim, config.decoder_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attention = DeformableAttention(dim, config.decoder_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, config.decoder_ffn_dim)
        self.linear2 = nn.Linear(config.decoder_ffn_dim, dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, queries: Tensor, places: Tensor, source: Tensor, source_places: Tensor, grid: tuple[int, int]) -> Tensor:
        """Transform queries ``[B, q, D]`` at ``[B, q, 2]`` that look at source tokens ``[B, n, D]`` at ``[B, n, 2]``."""
        attended = self.self_attention(queries, places, queries, places, grid)
        queries = self.norm1(queries + self.dropout(attended))
        attended = self.cross_attention(queries, places, source, source_places, grid)
        queries = self.norm2(queries + self.dropout(attended))
        hidden = self.dropout(functional.relu(self.linear1(queries)))
        output: Tensor = self.norm3(queries + self.dropout(self.linear2(hidden)))
        return output


class SourceProjection(nn.Sequential):
    """Linear and LayerNorm that bring a stage to the decoder's width."""

    def __init__(self, dim: int, decoder_dim: int) -> None:
        super().__init__(nn.Linear(dim, decoder_dim), nn.LayerNorm(decoder_dim))


class Decoder(nn.Module):
    """One block per stage, deepest first; all four intermediate results are kept."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dim = config.decoder_dim
        self.code_by_batch = config.position_code == "batch"
        self.query_token = nn.Parameter(torch.empty(1, 1, config.decoder_dim))
        self.projections = nn.ModuleList(SourceProjection(dim, config.decoder_dim) for dim in reversed(config.embed_dims))
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(STAGES))

    def forward(self, stages: list[Stage], places: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """Decode at places ``[B, q, 2]`` into four results ``[B, q, decoder_dim]``, deepest stage first."""
        queries = self.query_token + self.code(places, grid).to(self.query_token.dtype)
        if places.shape[1] == 0:  # an image of one patch: it stays visible, so there is nothing to ask
            return [queries] * STAGES
        results = []
        for stage, projection, block in zip(reversed(stages), self.projections, self.blocks, strict=True):
            source = projection(stage.tokens)
            source = source + self.code(stage.positions_xy, grid).to(source.dtype)
            queries = block(queries, places, source, stage.positions_xy, grid)
            results.append(queries)
        return results

    def code(self, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the position code of places, scaled by the grid or, as the paper's release does, by the batch's maximum."""
        if self.code_by_batch:
            extent = places.amax(dim=(0, 1)) + 1e-6
        else:
            extent = places.new_tensor((max(grid[1] - 1, 1), max(grid[0] - 1, 1)))
        return position_code(places, self.dim, extent)
