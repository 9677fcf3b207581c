"""From pixels to tokens through strided convolutions that cannot see hidden patches."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map ``[B, C, H, W]``."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise every pixel's channels."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchEmbedding(nn.Module):
    """``log2(p)`` convolutions 3×3 of stride 2, with LayerNorm and GELU between them and LayerNorm on the tokens.

    A 3×3 kernel would carry pixels across the border between a hidden and a visible patch. Therefore the pixels of hidden
    patches are zero, and so is every position of a hidden patch after each convolution, before the norm: what a visible token
    sees of a hidden neighbour is a constant.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        count = patch_size.bit_length() - 1
        widths = [in_channels, *[dim // 2] * (count - 1), dim]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths[1:-1])
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor, visible: Tensor | None) -> Tensor:
        """Embed images ``[B, C, h·p, w·p]`` into tokens of all patches, ``[B, h·w, D]``, in raster order.

        Parameters
        ----------
        visible
            bool ``[B, h, w]``, or None if nothing is hidden. Tokens of hidden patches hold nothing of use.
        """
        maps = images
        if visible is not None:
            maps = maps * _enlarge(visible, self.patch_size)
        cells = self.patch_size
        for depth, convolution in enumerate(self.convolutions):
            maps = convolution(maps)
            cells //= 2
            if visible is not None:
                maps = maps * _enlarge(visible, cells)
            if depth < len(self.norms):
                maps = functional.gelu(self.norms[depth](maps))
        tokens: Tensor = self.norm(maps.flatten(2).transpose(1, 2))
        return tokens


def _enlarge(visible: Tensor, cells: int) -> Tensor:
    """Repeat a mask of patches ``[B, h, w]`` to ``[B, 1, h·cells, w·cells]``."""
    batch, height, width = visible.shape
    mask = visible.view(batch, 1, height, 1, width, 1).expand(batch, 1, height, cells, width, cells)
    return mask.reshape(batch, 1, height * cells, width * cells)


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick rows ``ids [B, k]`` of ``tokens [B, n, D]``: ``[B, k, D]``."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def visible_grid(ids: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn visible raster ids ``[B, k]`` into a mask, bool ``[B, h, w]``."""
    mask = torch.zeros(ids.shape[0], grid[0] * grid[1], dtype=torch.bool, device=ids.device)
    return mask.scatter_(1, ids, True).view(-1, *grid)
