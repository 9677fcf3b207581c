"""Which patches pretraining hides, and the way between images and patches.

A mask is two lists of raster ids per image, visible and hidden, of the same length in every image of a batch, so that shapes
are static.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..model_config import MaskKind

CELLS = (8, 16, 32, 64)
"""Cells per side of the Perlin noise of the four quarters of a batch: hidden regions of four sizes."""


def visible_count(patches: int, mask_ratio: float) -> int:
    """Return how many of ``patches`` stay visible: ``int(L·(1 - r))``, but at least one, and one hidden where there are two."""
    return max(1, min(int(patches * (1 - mask_ratio)), patches - 1))


def draw_mask(
    batch: int,
    grid: tuple[int, int],
    mask_ratio: float,
    kind: MaskKind,
    device: torch.device,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Draw a mask: the patches of lowest noise stay visible.

    Parameters
    ----------
    generator
        Source of randomness; its device decides where the noise is drawn. None uses the default one.

    Returns
    -------
    visible_ids, hidden_ids
        int64 ``[B, visible]`` and ``[B, hidden]``, raster ids in ascending order.
    """
    place = generator.device if generator is not None else device
    noise = torch.rand(batch, grid[0] * grid[1], device=place, generator=generator)
    if kind == "perlin":
        # The uniform noise breaks ties: it is far below any difference that Perlin noise shows.
        noise = perlin_noise(batch, grid, place, generator).flatten(1) + 1e-6 * noise
    order = noise.argsort(dim=1, stable=True)
    visible = visible_count(grid[0] * grid[1], mask_ratio)
    visible_ids, hidden_ids = order[:, :visible].sort(dim=1).values, order[:, visible:].sort(dim=1).values
    return visible_ids.to(device, non_blocking=True), hidden_ids.to(device, non_blocking=True)


def perlin_noise(
    batch: int, grid: tuple[int, int], device: torch.device | str, generator: torch.Generator | None = None
) -> Tensor:
    """Return gradient noise sampled at patch centres, float32 ``[B, h, w]``, about -1 to 1.

    The batch is cut into four groups with 8, 16, 32 and 64 noise cells along the longer side (fewer than four images: 8), never
    more than half as many as there are patches: at its own lattice points Perlin noise is zero. Source: K. Perlin, "Improving
    noise" (SIGGRAPH 2002).
    """
    # Image i belongs to group i·4 // B: runs of images, which begin at ceil(g·B / 4).
    groups = len(CELLS)
    starts = [-(-group * batch // groups) for group in range(groups + 1)] if batch >= groups else [0, batch]
    return torch.cat(
        [
            _perlin(end - start, grid, cells, device, generator)
            for (start, end), cells in zip(pairwise(starts), CELLS, strict=False)
        ]
    )


def _perlin(
    batch: int, grid: tuple[int, int], cells: int, device: torch.device | str, generator: torch.Generator | None
) -> Tensor:
    longest = max(grid)
    down, across = (max(1, min(round(cells * side / longest), side // 2)) for side in grid)
    angle = torch.rand(batch, down + 1, across + 1, device=device, generator=generator) * (2 * torch.pi)
    slope = torch.stack((angle.cos(), angle.sin()), dim=-1)  # (x, y)

    y = (torch.arange(grid[0], device=device) + 0.5) * down / grid[0]
    x = (torch.arange(grid[1], device=device) + 0.5) * across / grid[1]
    row, column = y.long().clamp_max(down - 1), x.long().clamp_max(across - 1)
    fy, fx = (y - row).view(-1, 1), (x - column).view(1, -1)

    def corner(dy: int, dx: int) -> Tensor:
        gradient = slope[:, (row + dy).view(-1, 1), (column + dx).view(1, -1)]
        return gradient[..., 0] * (fx - dx) + gradient[..., 1] * (fy - dy)

    ease_y, ease_x = (t * t * t * (t * (t * 6 - 15) + 10) for t in (fy, fx))
    top = torch.lerp(corner(0, 0), corner(0, 1), ease_x.expand(batch, *grid))
    bottom = torch.lerp(corner(1, 0), corner(1, 1), ease_x.expand(batch, *grid))
    return torch.lerp(top, bottom, ease_y.expand(batch, *grid))


def complement(ids: Tensor, patches: int) -> Tensor:
    """Return the raster ids that are not in ``ids [B, k]``, ascending, ``[B, L - k]``."""
    taken = torch.zeros(ids.shape[0], patches, dtype=torch.bool, device=ids.device).scatter_(1, ids, True)
    return (~taken).to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, : patches - ids.shape[1]]


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images ``[B, C, h·p, w·p]`` into patches in raster order, ``[B, h·w, p·p·C]``, ordered row, column, channel."""
    batch, channels, height, width = images.shape
    h, w = height // patch_size, width // patch_size
    blocks = images.reshape(batch, channels, h, patch_size, w, patch_size)
    return blocks.permute(0, 2, 4, 3, 5, 1).reshape(batch, h * w, patch_size * patch_size * channels)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Put patches ``[B, h·w, p·p·C]`` back together as images ``[B, C, h·p, w·p]``: the inverse of :func:`patchify`."""
    batch = patches.shape[0]
    h, w = grid
    blocks = patches.reshape(batch, h, w, patch_size, patch_size, -1).permute(0, 5, 1, 3, 2, 4)
    return blocks.reshape(batch, -1, h * patch_size, w * patch_size)


def pad_to_patches(images: Tensor, patch_size: int) -> Tensor:
    """Pad images ``[B, C, H, W]`` by reflection at the bottom and the right to whole patches; any size, even one pixel."""
    height, width = images.shape[-2:]
    rows = _reflected(height, -(-height // patch_size) * patch_size, images.device)
    columns = _reflected(width, -(-width // patch_size) * patch_size, images.device)
    if rows is not None:
        images = images.index_select(-2, rows)
    return images if columns is None else images.index_select(-1, columns)


def _reflected(size: int, target: int, device: torch.device) -> Tensor | None:
    """Return the source index of each of ``target`` positions under repeated reflection, or None if nothing is padded."""
    if size == target:
        return None
    period = max(1, 2 * (size - 1))
    folded = torch.arange(target, device=device) % period
    return torch.where(folded < size, folded, period - folded)
