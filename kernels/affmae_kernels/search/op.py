"""The public search: checks, and the choice between the table of distances and the grid."""

from __future__ import annotations

import torch
from torch import Tensor

from .._check import check_same_device, check_shape
from .._dispatch import runs_in_triton
from .index import SiteIndex, is_indexed
from .recorded import nearest_recorded
from .reference import nearest_reference
from .registered import nearest_op, site_index_op
from .windows import DENSE, nearest_brute_force, nearest_on_grid

MOST = 8
"""Most sites per point that the kernel keeps in registers."""


@torch.no_grad()
def nearest(points: Tensor, sites: Tensor, k: int, grid: tuple[int, int] | None = None) -> Tensor:
    """Return the ids of the ``min(k, n)`` sites closest to each point, nearest first, ties to the lower index.

    Exact. Not differentiable: callers that need a gradient compute the few distances again.

    Parameters
    ----------
    points
        ``[B, P, 2]`` positions ``(x, y)``; one that is not finite gets sites that mean nothing.
    sites
        ``[B, n, 2]``, n >= 1.
    k
        How many sites to find.
    grid
        ``(h, w)`` if the sites of an image are different whole numbers with ``0 <= x < w`` and ``0 <= y < h``; makes the search
        on densely occupied grids much faster and changes nothing else.

    Returns
    -------
    Tensor
        int64 ``[B, P, min(k, n)]``.

    Raises
    ------
    ValueError
        If shapes do not fit, there is no site, or ``k < 1``.
    """
    check_shape("points", points, (None, None, 2), "[B, P, 2]")
    check_shape("sites", sites, (points.shape[0], None, 2), "[B, n, 2]")
    check_same_device(points=points, sites=sites)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if sites.shape[1] < 1:
        raise ValueError("sites must hold at least one position, got none")
    k = min(k, sites.shape[1])
    if points.dtype == torch.float64 or sites.dtype == torch.float64:
        return nearest_reference(points, sites, k)
    points, sites = points.float(), sites.float()
    if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return nearest_recorded(points, sites, k, grid)
    limit = None if k <= MOST else f"{k} sites per point; the kernel keeps at most {MOST}"
    if runs_in_triton(points.device, points.dtype, limit):
        found: Tensor = nearest_op(points, sites, k, grid).long()
        return found
    if grid is not None and k <= 8 and sites.shape[1] >= DENSE * grid[0] * grid[1]:
        return nearest_on_grid(points, sites, k, grid)
    return nearest_brute_force(points, sites, k)


@torch.no_grad()
def site_index(sites: Tensor, k: int, grid: tuple[int, int]) -> SiteIndex | None:
    """Prepare searches for up to ``k`` of the same sites, for several layers to share.

    Parameters
    ----------
    sites, k, grid
        As in :func:`nearest`.

    Returns
    -------
    SiteIndex or None
        To be handed to :func:`~affmae_kernels.deformable_attention`; None where the implementation that runs has no use for it.

    Raises
    ------
    ValueError
        If the sites are not ``[B, n, 2]``.
    """
    check_shape("sites", sites, (None, None, 2), "[B, n, 2]")
    if not is_indexed(sites.shape[1], k, grid) or not runs_in_triton(sites.device, sites.dtype):
        return None
    return SiteIndex(*site_index_op(sites.float(), k, grid))
