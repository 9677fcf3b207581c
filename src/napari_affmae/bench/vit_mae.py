"""The baseline: a masked autoencoder on a plain vision transformer, with what torch offers to make it fast.

Source: K. He et al., "Masked Autoencoders Are Scalable Vision Learners" (arXiv 2111.06377). Sizes are those that the AFFMAE
paper compares with; patches of 8 pixels and a mask ratio of 0.5, so that both networks see and predict equally many patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..model.geometry import grid_positions, position_code
from ..model.masking import patchify
from ..model.patch_embedding import gather_tokens

MLP_RATIO = 4
PATCH = 8

ONE_RADIAN = (2 * math.pi, 2 * math.pi)
"""Of how many patches a turn is: each is a radian from the next, as in He et al., so that attention of all tokens to all tokens
can tell neighbours apart in a grid of any size."""


@dataclass(frozen=True)
class VitSizes:
    """Width, blocks and heads of encoder and decoder."""

    dim: int
    depth: int
    heads: int
    decoder_dim: int = 384
    decoder_depth: int = 4
    decoder_heads: int = 6


SIZES = {"small": VitSizes(384, 8, 6), "base": VitSizes(512, 18, 8)}
"""Baselines of the presets; source: AFFMAE (arXiv 2602.16249)."""


class VitBlock(nn.Module):
    """Pre-norm attention of all tokens to all tokens, and an MLP, both residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, MLP_RATIO * dim), nn.GELU(), nn.Linear(MLP_RATIO * dim, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens ``[B, n, D]``."""
        batch, count, dim = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.proj(mixed.transpose(1, 2).reshape(batch, count, dim))
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output


class VitMAE(nn.Module):
    """A ViT encoder on visible patches, a lighter one on all of them, and the squared error on hidden patches."""

    def __init__(self, sizes: VitSizes, channels: int = 1) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Linear(PATCH**2 * channels, sizes.dim)
        self.blocks = nn.ModuleList(VitBlock(sizes.dim, sizes.heads) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.dim)
        self.to_decoder = nn.Linear(sizes.dim, sizes.decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, sizes.decoder_dim))
        self.decoder = nn.ModuleList(VitBlock(sizes.decoder_dim, sizes.decoder_heads) for _ in range(sizes.decoder_depth))
        self.decoder_norm = nn.LayerNorm(sizes.decoder_dim)
        self.head = nn.Linear(sizes.decoder_dim, PATCH**2 * channels)

    def training_loss(self, images: Tensor, visible_ids: Tensor, hidden_ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and no parts of it; arguments as in :meth:`.MaskedAutoencoder.training_loss`."""
        grid, places = self._places(images)
        patches = patchify(images, PATCH)
        tokens = self._encode(gather_tokens(patches, visible_ids), gather_tokens(places, visible_ids), grid)
        both = torch.cat((tokens, self.mask_token.to(tokens.dtype).expand(*hidden_ids.shape, -1)), dim=1)
        order = torch.cat((visible_ids, hidden_ids), dim=1)
        decoded = self._decode(both, gather_tokens(places, order), grid)
        predicted = self.head(decoded[:, visible_ids.shape[1] :])
        return (predicted.float() - gather_tokens(patches, hidden_ids)).square().mean(), {}

    def features(self, images: Tensor) -> Tensor:
        """Return what the decoder makes of whole images ``[B, C, H, W]``: ``[B, h·w, decoder_dim]`` in raster order."""
        grid, places = self._places(images)
        return self._decode(self._encode(patchify(images, PATCH), places, grid), places, grid)

    def _places(self, images: Tensor) -> tuple[tuple[int, int], Tensor]:
        grid = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        return grid, grid_positions(*grid, images.device, torch.float32).expand(images.shape[0], -1, 2)

    def _encode(self, patches: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        tokens = self.embedding(patches)
        tokens = tokens + self._code(places, grid, self.sizes.dim, tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        encoded: Tensor = self.to_decoder(self.norm(tokens))
        return encoded

    def _decode(self, tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        tokens = tokens + self._code(places, grid, self.sizes.decoder_dim, tokens.dtype)
        for block in self.decoder:
            tokens = block(tokens)
        decoded: Tensor = self.decoder_norm(tokens)
        return decoded

    def _code(self, places: Tensor, grid: tuple[int, int], dim: int, dtype: torch.dtype) -> Tensor:
        return position_code(places, dim, grid, ONE_RADIAN, dtype)
