"""The search as it runs: no full sort, and on grids no full table of distances either.

Ties go to the lower index because distance and index are packed into one integer key: a non-negative float32 keeps its order
when its bits are read as an integer.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 22
"""Largest table of distances held at a time, in elements; larger problems go through in chunks."""

REACHES = (2, 4, 8)
"""Half widths, in cells, of the windows that the grid search looks into, one after the other."""

DENSE = 0.1
"""Least occupied part of the grid for which looking into windows beats the table of all distances."""

INDEX = (1 << 32) - 1
"""The lower half of a key, which holds the index."""


def nearest_brute_force(points: Tensor, sites: Tensor, k: int) -> Tensor:
    """Return the ids of the k nearest sites, int64 ``[B, P, k]``, from a table of all distances, in chunks of points."""
    step = max(1, CHUNK // max(1, points.shape[0] * sites.shape[1]))
    index = torch.arange(sites.shape[1], device=points.device)
    found = [_smallest(squared(chunk, sites), index, k) for chunk in torch.split(points, step, dim=1)]
    return torch.cat(found, dim=1)


def nearest_on_grid(points: Tensor, sites: Tensor, k: int, grid: tuple[int, int]) -> Tensor:
    """Return the same ids for sites that lie on different cells of a grid, looking only at cells around each point.

    A point rounds to a cell (the closest one inside the grid). Every site outside the window of half width ``r`` around that
    cell is at least ``r + 0.5`` away from the point, so an answer whose k-th site is closer than that is final. What a small
    window leaves open (points in holes of the mask) a larger one mostly settles; the rest is searched by brute force.

    Parameters
    ----------
    points
        float32 ``[B, P, 2]``, anywhere.
    sites
        float32 ``[B, n, 2]``, whole numbers, ``0 <= x < w`` and ``0 <= y < h``, no two alike within an image.
    grid
        ``(h, w)``.
    """
    batch, count = points.shape[:2]
    margin = max(REACHES)
    padded_width = grid[1] + 2 * margin
    occupant = index_grid(sites, grid, margin)
    flat = points.reshape(-1, 2)
    image = torch.arange(batch, device=points.device).repeat_interleave(count)
    # A point that is NaN is near nothing: any cell inside will do.
    column = flat[:, 0].round().nan_to_num(0.0).clamp(0, grid[1] - 1)
    row = flat[:, 1].round().nan_to_num(0.0).clamp(0, grid[0] - 1)
    cell = torch.stack((column, row), dim=1)
    home = (image * (grid[0] + 2 * margin) + row.long() + margin) * padded_width + column.long() + margin

    ids = torch.empty(batch * count, k, dtype=torch.int64, device=points.device)
    open_points = torch.arange(batch * count, device=points.device)
    for reach in REACHES:
        side = torch.arange(-reach, reach + 1, device=points.device)
        window = (side.view(-1, 1) * padded_width + side).flatten()
        still_open = []
        for chunk in torch.split(open_points, max(1, CHUNK // window.numel())):
            occupants = occupant.index_select(0, (home[chunk].unsqueeze(1) + window).flatten()).view(-1, window.numel())
            ids[chunk], final = _look_around(flat[chunk], cell[chunk], side, occupants, k)
            still_open.append(chunk[~final])
        open_points = torch.cat(still_open)
    for b in range(batch):
        here = open_points[image[open_points] == b]
        if here.numel():
            ids[here] = nearest_brute_force(flat[here].unsqueeze(0), sites[b : b + 1], k)[0]
    return ids.view(batch, count, k)


def _look_around(points: Tensor, cell: Tensor, side: Tensor, occupants: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Search a square window around each point's cell.

    Distances are sums of one part per column and one per row of the window, computed from whole-number places exactly as a
    table of all distances would be, so that ties fall alike.

    Parameters
    ----------
    points, cell
        ``[P, 2]``: the points and the cells at the centres of their windows.
    side
        int64 ``[2r + 1]``, ``-r .. r``.
    occupants
        int64 ``[P, (2r + 1)²]``: the site in each cell of the window, -1 for none.

    Returns
    -------
    ids
        int64 ``[P, k]``.
    final
        bool ``[P]``: whether these are certainly the nearest.
    """
    squared = (cell.unsqueeze(2) + side - points.unsqueeze(2)).square_()
    distance = (squared[:, 0].unsqueeze(1) + squared[:, 1].unsqueeze(2)).flatten(1)
    distance.masked_fill_(occupants < 0, torch.inf)
    best = _pack(distance, occupants).topk(k, dim=-1, largest=False, sorted=True)
    farthest = distance.gather(1, best.indices[:, -1:]).squeeze(1)
    return best.values & INDEX, farthest < (side.numel() / 2) ** 2


def index_grid(sites: Tensor, grid: tuple[int, int], margin: int) -> Tensor:
    """Return which site occupies each cell of the grid, -1 for none, flat, with a border of empty cells."""
    batch, count = sites.shape[:2]
    padded_width = grid[1] + 2 * margin
    cells = (grid[0] + 2 * margin) * padded_width
    column, row = sites.long().unbind(-1)
    image = torch.arange(batch, device=sites.device).view(batch, 1) * cells
    address = image + (row + margin) * padded_width + column + margin
    occupant = torch.full((batch * cells,), -1, dtype=torch.int64, device=sites.device)
    occupant[address.flatten()] = torch.arange(count, device=sites.device).repeat(batch)
    return occupant


def squared(points: Tensor, sites: Tensor) -> Tensor:
    """Return all squared distances, ``[B, P, n]``."""
    dx = points[..., 0].unsqueeze(2) - sites[..., 0].unsqueeze(1)
    dy = points[..., 1].unsqueeze(2) - sites[..., 1].unsqueeze(1)
    return dx.square_().add_(dy.square_())


def _pack(distance: Tensor, index: Tensor) -> Tensor:
    return distance.contiguous().view(torch.int32).long().bitwise_left_shift_(32).bitwise_or_(index & INDEX)


def _smallest(distance: Tensor, index: Tensor, k: int) -> Tensor:
    return _pack(distance, index).topk(k, dim=-1, largest=False, sorted=True).values & INDEX
