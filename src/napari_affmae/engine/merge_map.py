"""Which surviving token stands for which part of an image, and how densely tokens survive."""

from __future__ import annotations

import math

import affmae_kernels
import torch
from torch import Tensor

from ..model.geometry import grid_positions

_SIGMA = 1.5
"""Width of the Gaussian that smooths a density, in patches."""


def owners(positions_xy: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the nearest token of every patch, ties to the lower index: int64 ``[h, w]``.

    Parameters
    ----------
    positions_xy
        ``[n, 2]`` in patch units.
    grid
        ``(h, w)`` patches.
    """
    patches = grid_positions(*grid, positions_xy.device, torch.float32).reshape(1, -1, 2)
    return affmae_kernels.nearest(patches, positions_xy.float().unsqueeze(0), 1, grid).view(grid)


def token_density(owner: Tensor, tokens: int) -> Tensor:
    """Return tokens per patch, float32 ``[h, w]``; 1 everywhere where nothing was merged.

    A token counts for all patches that it owns, 1 over their number for each; the result is smoothed by a Gaussian of 1.5
    patches, mirrored at the border. Its mean is the number of tokens over the number of patches.

    Parameters
    ----------
    owner
        int64 ``[h, w]``, from :func:`owners`.
    tokens
        Number of tokens.
    """
    owned = torch.bincount(owner.flatten(), minlength=tokens).float()
    return _smooth(_smooth(1 / owned[owner], 0), 1)


def _smooth(values: Tensor, axis: int) -> Tensor:
    """Smooth ``[h, w]`` along an axis, mirrored with the edge repeated, which keeps the mean."""
    size = values.shape[axis]
    reach = math.ceil(3 * _SIGMA)
    index = torch.arange(-reach, size + reach, device=values.device) % (2 * size)
    source = torch.where(index < size, index, 2 * size - 1 - index)
    offsets = torch.arange(-reach, reach + 1, device=values.device)
    kernel = torch.exp(-0.5 * (offsets / _SIGMA).square())
    windows = values.index_select(axis, source).unfold(axis, 2 * reach + 1, 1)
    return windows @ (kernel / kernel.sum())


def to_pixels(values: Tensor, patch_size: int, size: tuple[int, int]) -> Tensor:
    """Repeat values of patches ``[h, w, ...]`` for each of their pixels and cut what was padded: ``[H, W, ...]``."""
    large = values.repeat_interleave(patch_size, dim=0).repeat_interleave(patch_size, dim=1)
    return large[: size[0], : size[1]]
