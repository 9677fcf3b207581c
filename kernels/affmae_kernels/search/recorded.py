"""The search as :func:`torch.jit.trace` can record it: its course depends on shapes alone, and no bits are read as numbers.

What is recorded on one image must find the same sites on any other. The search on grids asks the points where to go on, and the
packed keys need a view of float bits as integers, which a trace cannot hold.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .windows import CHUNK, index_grid, squared


def nearest_recorded(points: Tensor, sites: Tensor, k: int, grid: tuple[int, int] | None) -> Tensor:
    """Return what :func:`~affmae_kernels.nearest` documents, for ``k <= n``."""
    points = points.nan_to_num(0.0)  # no distance from a NaN is the least one
    if grid is not None and sites.shape[1] == grid[0] * grid[1]:
        return _on_full_grid(points, sites, k, grid)
    index = torch.arange(sites.shape[1], device=points.device)
    step = max(1, CHUNK // (points.shape[0] * sites.shape[1]))
    return torch.cat([_least(squared(some, sites), index, k) for some in torch.split(points, step, dim=1)], dim=1)


def _on_full_grid(points: Tensor, sites: Tensor, k: int, grid: tuple[int, int]) -> Tensor:
    """Search sites that lie one on every cell, by one look at the window of half width ``k - 1`` around the closest cell.

    That is enough: a site outside of the window has, on its way to that cell, k sites inside that are closer, and on a full
    grid none of them is missing.
    """
    batch, count = points.shape[:2]
    reach = k - 1
    width = grid[1] + 2 * reach
    occupant = index_grid(sites, grid, reach)
    flat = points.reshape(-1, 2)
    image = torch.arange(batch, device=points.device).view(batch, 1).expand(batch, count).reshape(-1)
    column = flat[:, 0].round().clamp(0, grid[1] - 1)
    row = flat[:, 1].round().clamp(0, grid[0] - 1)
    home = (image * (grid[0] + 2 * reach) + row.long() + reach) * width + column.long() + reach
    side = torch.arange(-reach, reach + 1, device=points.device)
    window = (side.view(-1, 1) * width + side).flatten()
    found = []
    for begin in range(0, batch * count, max(1, CHUNK // window.numel())):
        some = slice(begin, begin + max(1, CHUNK // window.numel()))
        across = (column[some, None] + side - flat[some, :1]).square()
        along = (row[some, None] + side - flat[some, 1:]).square()
        distance = (across.unsqueeze(1) + along.unsqueeze(2)).flatten(1)
        occupants = occupant.index_select(0, (home[some, None] + window).flatten()).view(-1, window.numel())
        found.append(_least(distance.masked_fill(occupants < 0, torch.inf), occupants, k))
    return torch.cat(found).view(batch, count, k)


def _least(distance: Tensor, index: Tensor, k: int) -> Tensor:
    """Return the indices of the k least distances, the least first, ties to the lower index: ``[..., k]`` for ``[..., n]``."""
    none = torch.iinfo(torch.int64).max
    chosen = []
    for _ in range(k):
        least = distance.amin(dim=-1, keepdim=True)
        first = torch.where(distance == least, index, none).amin(dim=-1, keepdim=True)
        distance = torch.where(index == first, torch.inf, distance)
        chosen.append(first)
    return torch.cat(chosen, dim=-1)
