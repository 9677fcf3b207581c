"""The hierarchical encoder: four stages of cluster attention with merging between them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..config import STAGES, ModelConfig
from .blocks import Block
from .merging import ClusterMerge, NormMerge
from .neighbourhood import Neighbourhood
from .norm import Norm

MAX_DROP_PATH = 0.1
"""DropPath rises linearly from 0 at the first block to this at the last."""


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

    def __init__(self, config: ModelConfig, level: int, drop_paths: list[float]) -> None:
        super().__init__()
        dim = config.embed_dims[level]
        self.cluster_size = config.cluster_size
        self.neighbourhood = config.neighbourhood[level]
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads[level], int(dim * config.mlp_ratio), drop_path) for drop_path in drop_paths
        )
        self.merge: ClusterMerge | NormMerge | None = None
        if level + 1 < STAGES:
            next_dim, rate = config.embed_dims[level + 1], config.ds_rates[level]
            if config.merging == "cluster":
                self.merge = ClusterMerge(dim, next_dim, rate, config.selection)
            else:
                self.merge = NormMerge(dim, next_dim, rate)

    def forward(self, tokens: Tensor, positions: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return this stage's tokens and positions, and the survivors' (the same again behind the last stage)."""
        tokens, around = Neighbourhood.arrange(tokens, positions, self.cluster_size, self.neighbourhood, grid)
        blocks = list(self.blocks)
        for block in blocks[:-1]:
            tokens = block(tokens, around)
        if self.merge is None:
            tokens = blocks[-1](tokens, around)
            return tokens, around.positions, tokens, around.positions
        tokens, merged, places = self.merge(tokens, around, blocks[-1])
        return tokens, around.positions, merged, places


class Encoder(nn.Module):
    """Four stages; each keeps a part of the tokens where the image is busy."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        total = sum(config.depths)
        rates = [MAX_DROP_PATH * block / max(1, total - 1) for block in range(total)]
        self.stages = nn.ModuleList()
        for level, depth in enumerate(config.depths):
            self.stages.append(EncoderStage(config, level, rates[:depth]))
            rates = rates[depth:]
        self.norms = nn.ModuleList(Norm(dim) for dim in config.embed_dims)

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
        for stage, norm in zip(self.stages, self.norms, strict=True):
            here, places, tokens, positions_xy = stage(tokens, positions_xy, grid)
            outputs.append(Stage(norm(here), places))
        return outputs
