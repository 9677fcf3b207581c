"""The hierarchical encoder: four stages of cluster attention with merging between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from ..model_config import STAGES, ModelConfig
from .blocks import Block, Scales
from .drop_path import DropPaths
from .merging import ClusterMerge, NormMerge
from .neighbourhood import Neighbourhood
from .norm import Norm
from .residual import Residual


@dataclass(frozen=True)
class Stage:
    """What one stage hands to the decoder.

    Attributes
    ----------
    tokens
        ``[B, n, D]``, after the stage's norm, in cluster order.
    positions_xy
        ``[B, n, 2]``, ``(x, y)`` in patches.
    """

    tokens: Tensor
    positions_xy: Tensor


class EncoderStage(nn.Module):
    """Blocks over one set of tokens and, except in the last stage, the merge to the next."""

    def __init__(self, config: ModelConfig, level: int) -> None:
        super().__init__()
        dim = config.embed_dims[level]
        self.cluster_size = config.cluster_size
        self.neighbourhood = config.neighbourhood[level]
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads[level], int(dim * config.mlp_ratio)) for _ in range(config.depths[level])
        )
        self.merge: ClusterMerge | NormMerge | None = None
        if level + 1 < STAGES:
            next_dim, rate = config.embed_dims[level + 1], config.ds_rates[level]
            if config.merging == "cluster":
                self.merge = ClusterMerge(dim, next_dim, rate, config.selection)
            else:
                self.merge = NormMerge(dim, next_dim, rate)

    def forward(
        self, tokens: Tensor, positions: Tensor, grid: tuple[int, int], norm: Norm, scales: list[Scales]
    ) -> tuple[Stage, Tensor, Tensor]:
        """Return this stage for the decoder, and the survivors' tokens and positions (the same again behind the last stage)."""
        tokens, around = Neighbourhood.arrange(tokens, positions, self.cluster_size, self.neighbourhood, grid)
        stream = Residual(tokens)
        for block, factors in zip(self.blocks[:-1], scales[:-1], strict=True):
            stream = block(stream, around, factors)
        last = partial(self.blocks[-1], around=around, scales=scales[-1])
        if self.merge is None:
            tokens, normed = last(stream).normed(norm)
            return Stage(normed, around.positions), tokens, around.positions
        normed, merged, places = self.merge(stream, around, last, norm)
        return Stage(normed, around.positions), merged, places


class Encoder(nn.Module):
    """Four stages; each keeps a part of the tokens where the image is busy."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.depths = config.depths
        self.stages = nn.ModuleList(EncoderStage(config, level) for level in range(STAGES))
        self.norms = nn.ModuleList(Norm(dim) for dim in config.embed_dims)
        self.drop_paths = DropPaths(sum(config.depths))

    def forward(self, tokens: Tensor, positions_xy: Tensor, grid: tuple[int, int]) -> list[Stage]:
        """Encode tokens.

        Parameters
        ----------
        tokens
            ``[B, n, D_0]``.
        positions_xy
            ``[B, n, 2]``, ``(x, y)`` in patches, whole numbers.
        grid
            ``(h, w)`` of the whole image in patches.

        Returns
        -------
        list of Stage
            Four stages, shallow to deep. The norm of a stage is for the decoder only; the next stage sees raw tokens.
        """
        outputs = []
        scales = self.drop_paths(tokens.shape[0])
        for stage, norm, depth in zip(self.stages, self.norms, self.depths, strict=True):
            own, scales = scales[:depth], scales[depth:]
            output, tokens, positions_xy = stage(tokens, positions_xy, grid, norm, own)
            outputs.append(output)
        return outputs
