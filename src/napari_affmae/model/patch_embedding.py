"""From pixels to tokens through strided convolutions that cannot see hidden patches."""

from __future__ import annotations

from itertools import pairwise

import torch
from affmae_kernels import linear, masked_norm_gelu
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .norm import Norm

ALIGNED = 8
"""Half-precision products want rows that are multiples of this many numbers."""


class MapNorm(nn.Module):
    """Hide pixels, then LayerNorm over the channels and GELU, on a map ``[B, H, W, C]``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, maps: Tensor, visible: Tensor | None) -> Tensor:
        """Normalise every pixel's channels; ``visible`` is bool ``[B, H, W]``, or None if nothing is hidden."""
        seen = None if visible is None else visible.flatten()
        return masked_norm_gelu(maps.reshape(-1, maps.shape[-1]), seen, self.weight, self.bias).view(maps.shape)


class WindowConvolution(nn.Conv2d):
    """A 3×3 convolution of stride 2 of images ``[B, C, H, W]`` into a map ``[B, H/2, W/2, D]``, as windows times weights.

    Images have so few channels that convolution libraries have nothing to gain and put the channels in the wrong place.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__(in_channels, dim, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images."""
        windows = functional.pad(images, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2).permute(0, 2, 3, 1, 4, 5).flatten(3)
        missing = -windows.shape[-1] % ALIGNED
        weight = functional.pad(self.weight.flatten(1), (0, missing))
        return linear(functional.pad(windows, (0, missing)), weight, self.bias)


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
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths[1:])
        )
        self.convolutions.insert(0, WindowConvolution(in_channels, widths[1]))
        self.norms = nn.ModuleList(MapNorm(width) for width in widths[1:-1])
        self.norm = Norm(dim)

    def forward(self, images: Tensor, visible: Tensor | None) -> Tensor:
        """Embed images ``[B, C, h·p, w·p]`` into tokens of all patches, ``[B, h·w, D]``, in raster order.

        Parameters
        ----------
        visible
            bool ``[B, h, w]``, or None if nothing is hidden. Tokens of hidden patches hold nothing of use.
        """
        if images.is_cuda and torch.is_grad_enabled():
            # The maps are large and cheap to make again; there is nothing random in them.
            tokens: Tensor = checkpoint(self._embed, images, visible, use_reentrant=False, preserve_rng_state=False)
            return tokens
        return self._embed(images, visible)

    def _embed(self, images: Tensor, visible: Tensor | None) -> Tensor:
        cells = self.patch_size
        if visible is not None:
            images = images * enlarge(visible, cells).unsqueeze(1)
        # Channels last in memory: pixels are rows to the norms, and convolutions on graphics cards like it.
        maps = self.convolutions[0](images)
        for norm, convolution in zip(self.norms, list(self.convolutions)[1:], strict=True):
            cells //= 2
            maps = norm(maps, None if visible is None else enlarge(visible, cells))
            maps = convolution(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        # The last convolution ends at one pixel per patch, so there is no pixel of a hidden patch that anybody looks at.
        tokens: Tensor = self.norm(maps.flatten(1, 2))
        return tokens


def enlarge(visible: Tensor, cells: int) -> Tensor:
    """Repeat a mask of patches ``[B, h, w]`` to ``[B, h·cells, w·cells]``."""
    batch, height, width = visible.shape
    mask = visible.view(batch, height, 1, width, 1).expand(batch, height, cells, width, cells)
    return mask.reshape(batch, height * cells, width * cells)


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick rows ``ids [B, k]`` of ``tokens [B, n, D]``: ``[B, k, D]``."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def visible_grid(ids: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn visible raster ids ``[B, k]`` into a mask, bool ``[B, h, w]``."""
    mask = torch.zeros(ids.shape[0], grid[0] * grid[1], dtype=torch.bool, device=ids.device)
    return mask.scatter_(1, ids, True).view(-1, *grid)
