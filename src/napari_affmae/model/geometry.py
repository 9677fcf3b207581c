"""Where tokens are: clusters of neighbours along a serpentine curve, and position codes. Nothing here is learned.

Positions are ``(x, y)`` in patches, column first, as float tensors of whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from affmae_kernels import nearest
from torch import Tensor
from torch.nn import functional


def grid_positions(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the positions of all patches of a grid in raster order, ``[h·w, 2]``."""
    row, column = torch.meshgrid(
        torch.arange(height, device=device, dtype=dtype), torch.arange(width, device=device, dtype=dtype), indexing="ij"
    )
    return torch.stack((column.flatten(), row.flatten()), dim=-1)


@dataclass(frozen=True)
class Anchors:
    """A regular arrangement of cells over the grid, ranked row by row in alternating direction (a serpentine)."""

    rows: int
    columns: int
    cell_height: float
    cell_width: float

    @classmethod
    def spread(cls, clusters: int, grid: tuple[int, int]) -> Anchors:
        """Spread about as many cells as there are clusters, as square as possible, at least one each way."""
        height, width = grid
        side = math.sqrt(height * width / clusters)
        rows, columns = max(1, round(height / side)), max(1, round(width / side))
        return cls(rows, columns, height / rows, width / columns)

    def centres(self, device: torch.device) -> Tensor:
        """Return the centres in the order of their rank, extended by one reflection at both ends: float32 ``[A + 2, 2]``."""
        cells = grid_positions(self.rows, self.columns, device, torch.float32).view(self.rows, self.columns, 2)
        cells[1::2] = cells[1::2].flip(1)
        column, row = cells.view(-1, 2).unbind(-1)
        centres = torch.stack(((column + 0.5) * self.cell_width - 0.5, (row + 0.5) * self.cell_height - 0.5), dim=-1)
        return torch.cat((2 * centres[:1] - centres[1:2], centres, 2 * centres[-1:] - centres[-2:-1]))

    def rank(self, positions: Tensor) -> Tensor:
        """Return the rank of the cell that holds each position: int64 ``[B, n]`` for ``[B, n, 2]``."""
        column = (positions[..., 0] / self.cell_width).floor().long().clamp(0, self.columns - 1)
        row = (positions[..., 1] / self.cell_height).floor().long().clamp(0, self.rows - 1)
        along = torch.where(row % 2 == 0, column, self.columns - 1 - column)
        return row * self.columns + along


def cluster_order(positions: Tensor, cluster_size: int, grid: tuple[int, int]) -> Tensor:
    """Return the order that makes every ``cluster_size`` consecutive tokens a compact cluster: int64 ``[B, n]``.

    Tokens are ranked by the cell they lie in and, inside a cell, by how far they are on their way from the previous cell's
    centre to the next one's. The key is float32 whatever the dtype of the model: another rounding changes which tokens share
    a cluster. Ties keep the current order. Source: AutoFocusFormer (arXiv 2304.12406), balanced clustering.
    """
    tokens = positions.shape[1]
    anchors = Anchors.spread(math.ceil(tokens / cluster_size), grid)
    if anchors.rows * anchors.columns == 1:
        return torch.arange(tokens, device=positions.device).expand(positions.shape[0], tokens)
    place = positions.float()
    rank = anchors.rank(place)
    centres = anchors.centres(positions.device)
    before = (place - centres[rank]).square().sum(-1)
    after = (place - centres[rank + 2]).square().sum(-1)
    ratio = before / (after + 1e-5)
    key = rank * (ratio.amax(dim=1, keepdim=True) + 1) + ratio
    return torch.sort(key, dim=1, stable=True).indices


def cluster_centres(positions: Tensor, cluster_size: int) -> Tensor:
    """Return the mean position of the real members of each cluster, ``[B, ceil(n / m), 2]``, for tokens in cluster order."""
    batch, tokens = positions.shape[:2]
    clusters = math.ceil(tokens / cluster_size)
    padding = clusters * cluster_size - tokens
    padded = functional.pad(positions, (0, 0, 0, padding)).view(batch, clusters, cluster_size, 2)
    members = positions.new_full((clusters, 1), cluster_size)
    members[-1] = cluster_size - padding
    return padded.sum(2) / members


def neighbour_clusters(positions: Tensor, cluster_size: int, neighbourhood: int) -> Tensor | None:
    """Return the ids of the clusters that each token attends to, int64 ``[B, n, c]``, or None if it attends to all tokens."""
    tokens = positions.shape[1]
    if neighbourhood >= tokens:
        return None
    count = max(1, min(round(neighbourhood / cluster_size), math.ceil(tokens / cluster_size)))
    return nearest(positions, cluster_centres(positions, cluster_size), count)


def position_code(
    positions: Tensor, dim: int, grid: tuple[int, int], extent: tuple[float, float] | Tensor, dtype: torch.dtype
) -> Tensor:
    """Return the sine code of positions, ``[B, n, dim]``: sines then cosines of x, then the same of y.

    Parameters
    ----------
    positions
        ``[B, n, 2]``, whole numbers inside the grid; so every row and column of it is coded once, and codes are looked up.
    extent
        What x and y are divided by, so that they fill one turn: two numbers, or a tensor ``[2]``.
    dtype
        Of the result; the angles are computed in the dtype of the positions.
    """
    column, row = positions.long().unbind(-1)
    along = torch.arange(max(grid), device=positions.device, dtype=positions.dtype)
    columns = _axis_code(along[: grid[1]] / extent[0], dim // 2).to(dtype)
    rows = _axis_code(along[: grid[0]] / extent[1], dim // 2).to(dtype)
    return torch.cat((functional.embedding(column, columns), functional.embedding(row, rows)), dim=-1)


def _axis_code(turns: Tensor, dim: int) -> Tensor:
    """Return the code of places along one axis, ``[n, dim]`` for ``[n]``, whose unit is a turn."""
    index = torch.arange(dim, device=turns.device, dtype=turns.dtype)
    frequency = 10000.0 ** (2 * (index // 2) / dim)
    angle = (turns * (2 * math.pi)).unsqueeze(-1) / frequency
    return torch.cat((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=-1)
