"""The search as it runs: no full sort, and on grids no full table of distances either.

Ties go to the lower index because distance and index are packed into one integer key: a non-negative float32 keeps its order
when its bits are read as an integer.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 22
"""Largest table of distances held at a time, in elements; larger problems go through in chunks."""

REACH = 2
"""Half width, in cells, of the window that the grid search looks into first."""

DENSE = 0.2
"""Least occupied part of the grid for which looking into windows beats the table of all distances."""

NOTHING = torch.iinfo(torch.int64).max


def nearest_brute_force(points: Tensor, sites: Tensor, k: int) -> Tensor:
    """Return the ids of the k nearest sites, int64 ``[B, P, k]``, from a table of all distances, in chunks of points."""
    step = max(1, CHUNK // max(1, points.shape[0] * sites.shape[1]))
    index = torch.arange(sites.shape[1], device=points.device)
    found = [_smallest(_squared(chunk, sites), index, k) for chunk in points.split(step, dim=1)]
    return torch.cat(found, dim=1)


def nearest_on_grid(points: Tensor, sites: Tensor, k: int, grid: tuple[int, int]) -> Tensor:
    """Return the same ids for sites that lie on different cells of a grid, looking only at cells around each point.

    A point rounds to a cell; every site outside the window of half width ``REACH`` around it is at least ``REACH + 0.5`` away,
    so an answer whose k-th site is closer than that is final. The few other points (in holes of the mask, or outside of the
    image) are searched by brute force.

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
    height, width = grid
    occupant = _index_grid(sites, height, width)

    cell = points.round().long()
    column = cell[..., 0].clamp(0, width - 1) + REACH
    row = cell[..., 1].clamp(0, height - 1) + REACH
    padded_width = width + 2 * REACH
    image = torch.arange(batch, device=points.device).view(batch, 1) * (height + 2 * REACH) * padded_width
    home = image + row * padded_width + column
    side = torch.arange(-REACH, REACH + 1, device=points.device)
    window = (side.view(-1, 1) * padded_width + side.view(1, -1)).flatten()

    ids = torch.empty(batch, count, k, dtype=torch.int64, device=points.device)
    step = max(1, CHUNK // (batch * window.numel()))
    table = sites.reshape(-1, 2)
    for start in range(0, count, step):
        here = slice(start, start + step)
        candidates = occupant.index_select(0, (home[:, here].unsqueeze(-1) + window).flatten()).view(batch, -1, window.numel())
        empty = candidates < 0
        rows = candidates.clamp_min(0) + (torch.arange(batch, device=points.device) * sites.shape[1]).view(batch, 1, 1)
        place = table.index_select(0, rows.flatten()).view(*rows.shape, 2)
        distance = (place - points[:, here].unsqueeze(2)).square().sum(-1)
        keys = _pack(distance, candidates).masked_fill_(empty, NOTHING)
        best = keys.topk(k, dim=-1, largest=False, sorted=True).values
        ids[:, here] = best & 0xFFFFFFFF
        # The k-th key holds the k-th distance; a missing site makes it NOTHING, which is larger than any bound.
        bound = torch.tensor((REACH + 0.5) ** 2, dtype=torch.float32).view(torch.int32).item()
        ids[:, here, 0] = torch.where((best[..., -1] >> 32) < bound, ids[:, here, 0], -1)

    for b in range(batch):
        open_points = (ids[b, :, 0] < 0).nonzero().squeeze(1)
        if open_points.numel():
            ids[b, open_points] = nearest_brute_force(points[b : b + 1, open_points], sites[b : b + 1], k)[0]
    return ids


def _index_grid(sites: Tensor, height: int, width: int) -> Tensor:
    """Return which site occupies each cell of the grid, -1 for none, flat, with a border of ``REACH`` empty cells."""
    batch, count = sites.shape[:2]
    padded_width = width + 2 * REACH
    cells = (height + 2 * REACH) * padded_width
    column, row = sites.long().unbind(-1)
    image = torch.arange(batch, device=sites.device).view(batch, 1) * cells
    address = image + (row + REACH) * padded_width + column + REACH
    occupant = torch.full((batch * cells,), -1, dtype=torch.int64, device=sites.device)
    occupant[address.flatten()] = torch.arange(count, device=sites.device).repeat(batch)
    return occupant


def _squared(points: Tensor, sites: Tensor) -> Tensor:
    dx = points[..., 0].unsqueeze(2) - sites[..., 0].unsqueeze(1)
    dy = points[..., 1].unsqueeze(2) - sites[..., 1].unsqueeze(1)
    return dx.square_().add_(dy.square_())


def _pack(distance: Tensor, index: Tensor) -> Tensor:
    return distance.contiguous().view(torch.int32).long().bitwise_left_shift_(32).bitwise_or_(index)


def _smallest(distance: Tensor, index: Tensor, k: int) -> Tensor:
    return _pack(distance, index).topk(k, dim=-1, largest=False, sorted=True).values & 0xFFFFFFFF
