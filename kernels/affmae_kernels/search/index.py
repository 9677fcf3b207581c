"""Which sites matter to the points of each cell of a grid: computed once, for several searches. Imports no Triton."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

LISTED = 48
"""Most sites in the list of a cell: in a grid without holes 21 are needed, at its border 30."""

LARGEST = 1 << 16
"""Most sites that the entries of the lists can number."""

SPARSE = 16
"""A window of the grid is cheaper than a walk over all sites when ``sites² > SPARSE · cells``: it has to hold a few sites."""

INDEXED_K = 4
"""Most sites per point that lists are made for."""


class SiteIndex(NamedTuple):
    """Lists of sites around every cell.

    Attributes
    ----------
    cells
        int32 ``[B, h·w]``, the site in each cell, or -1.
    near, counts
        int32 ``[B, h·w, LISTED]`` and ``[B, h·w]``: site and offset of each entry, packed, and how many entries there are.
    radii
        float32 ``[B, h·w]``, the distance from the cell's centre that its list covers; 0 for a list that covers nothing.
    """

    cells: Tensor
    near: Tensor
    counts: Tensor
    radii: Tensor


def is_indexed(sites: int, k: int, grid: tuple[int, int] | None) -> bool:
    """Return whether lists are faster than a walk over all sites, and possible."""
    return grid is not None and k <= INDEXED_K and SPARSE * grid[0] * grid[1] < sites * sites and sites <= LARGEST
