"""The decoder: queries at patches look at themselves and at one encoder stage per block, deepest first."""

from __future__ import annotations

import torch
from affmae_kernels import SiteIndex, deformable_attention, feed_forward, site_index
from torch import Tensor, nn

from ..model_config import STAGES, ModelConfig
from .encoder import Stage
from .geometry import position_code
from .linear import Linear, Unbiased
from .norm import Norm

POINTS = 4
"""Sampling points per query and head."""

NEIGHBOURS = 4
"""Tokens that a sampling point is interpolated from."""

DROPOUT = 0.1


class DeformableAttention(nn.Module):
    """Multi-head attention that samples 4 learned points per head, each interpolated from its nearest tokens."""

    def __init__(self, dim: int, heads: int, *, to_itself: bool) -> None:
        super().__init__()
        self.heads = heads
        # One product for all that is made of the queries: offsets (x, y per point), mixing weights, and their own values.
        self.sampling = Linear(dim, heads * POINTS * 3 + (dim if to_itself else 0))
        self.value = None if to_itself else Linear(dim, dim)
        self.output = Unbiased(dim, dim)
        self.power = nn.Parameter(torch.ones(()))

    def forward(
        self,
        queries: Tensor,
        query_places: Tensor,
        source: Tensor,
        source_places: Tensor,
        grid: tuple[int, int],
        index: SiteIndex | None = None,
    ) -> Tensor:
        """Attend from queries ``[B, q, D]`` at ``[B, q, 2]`` to source tokens ``[B, n, D]`` at ``[B, n, 2]``.

        ``index`` is that of the source's places, if it is known. The bias of ``output`` is still to be added.
        """
        batch, count, dim = queries.shape
        points = self.heads * POINTS
        sizes = [2 * points, points] if self.value is not None else [2 * points, points, dim]
        offsets, mixing, *own = torch.split(self.sampling(queries), sizes, dim=-1)
        value = own[0] if self.value is None else self.value(source)
        places = query_places[:, :, None, None] + offsets.view(batch, count, self.heads, POINTS, 2)
        sampled = deformable_attention(
            value.view(batch, source.shape[1], self.heads, dim // self.heads),
            source_places,
            places,
            mixing.view(batch, count, self.heads, POINTS).softmax(-1),
            self.power,
            grid,
            index,
        )
        output: Tensor = self.output(sampled.reshape(batch, count, dim))
        return output


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to one stage, and a feed-forward layer, each followed by its norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.decoder_dim
        self.self_attention = DeformableAttention(dim, config.decoder_heads, to_itself=True)
        self.norm1 = Norm(dim)
        self.cross_attention = DeformableAttention(dim, config.decoder_heads, to_itself=False)
        self.norm2 = Norm(dim)
        self.linear1 = Linear(dim, config.decoder_ffn_dim)
        self.linear2 = Unbiased(config.decoder_ffn_dim, dim)
        self.norm3 = Norm(dim)

    def forward(
        self,
        queries: Tensor,
        places: Tensor,
        source: Tensor,
        source_places: Tensor,
        grid: tuple[int, int],
        index: SiteIndex | None,
    ) -> Tensor:
        """Transform queries ``[B, q, D]`` at ``[B, q, 2]`` that look at source tokens ``[B, n, D]`` at ``[B, n, 2]``.

        ``index`` is that of the queries' places, which stay the same in all blocks.
        """
        dropout = DROPOUT if self.training else 0.0
        attended = self.self_attention(queries, places, queries, places, grid, index)
        _, queries = self.norm1.after(queries, attended, self.self_attention.output, dropout=dropout)
        attended = self.cross_attention(queries, places, source, source_places, grid)
        _, queries = self.norm2.after(queries, attended, self.cross_attention.output, dropout=dropout)
        hidden = feed_forward(queries, self.linear1.weight, self.linear1.bias, self.linear2.weight, None, "relu", dropout)
        return self.norm3.after(queries, hidden, self.linear2, dropout=dropout)[1]


class SourceProjection(nn.Sequential):
    """Linear and LayerNorm that bring a stage to the decoder's width."""

    def __init__(self, dim: int, decoder_dim: int) -> None:
        super().__init__(Linear(dim, decoder_dim), Norm(decoder_dim))


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
        # Encoder tokens come normed, in autocast's dtype where there is one; the queries' stream is kept in the same.
        dtype = stages[-1].tokens.dtype
        if places.shape[1] == 0:  # an image of one patch: it stays visible, so there is nothing to ask
            return [self.query_token.to(dtype).expand(*places.shape[:2], -1)] * STAGES
        queries = self.query_token.to(dtype) + self.code(places, grid, dtype)
        index = site_index(places, NEIGHBOURS, grid)
        results = []
        for stage, projection, block in zip(reversed(stages), self.projections, self.blocks, strict=True):
            source = projection(stage.tokens)
            source = source + self.code(stage.positions_xy, grid, dtype)
            queries = block(queries, places, source, stage.positions_xy, grid, index)
            results.append(queries)
        return results

    def code(self, places: Tensor, grid: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Return the position code of places, scaled by the grid or, as the paper's release does, by the batch's maximum."""
        if self.code_by_batch:
            return position_code(places, self.dim, grid, places.amax(dim=(0, 1)) + 1e-6, dtype)
        # Numbers, not a tensor made of them: that would be copied from the host, which a CUDA graph cannot capture.
        return position_code(places, self.dim, grid, (max(grid[1] - 1, 1), max(grid[0] - 1, 1)), dtype)
