"""Nearest search without tables of distances: each point keeps its few best sites in registers.

On a grid the sites that matter to the points of a cell are listed once per cell: there are ten times as many points as cells.
A candidate is one 64-bit key, distance above and index below: a non-negative float32 keeps its order when its bits are read as
an integer, so the smallest key is the nearest site and ties go to the lower index. Distances are computed without fused
multiply-adds, hence with the same rounding as the table of the PyTorch search.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import tiles
from .._launch import index_memory, launch
from . import index
from .index import SiteIndex

BLOCK = 64
"""Points per program that walks over all sites."""

LOOK_UP = 32
"""Points per program that looks into lists: one warp, which waits for the longest list among its own points only."""

SIDE = 8
"""Cells go to programs in squares of so many by so many: neighbours need windows of about the same size."""

ACROSS = 16
"""Cells of a row of the window that a program of cells looks into at a time."""

REACH = 2
"""Half width, in cells, of the window that every point looks into before rings are added to it."""


@triton.jit
def _insert(a0, a1, a2, a3, x):
    """Put a key where it belongs among four ascending ones; return them and the key that drops out."""
    b0, x = tl.minimum(a0, x), tl.maximum(a0, x)
    b1, x = tl.minimum(a1, x), tl.maximum(a1, x)
    b2, x = tl.minimum(a2, x), tl.maximum(a2, x)
    b3, x = tl.minimum(a3, x), tl.maximum(a3, x)
    return b0, b1, b2, b3, x


@triton.jit
def _key(dx, dy, index):
    distance = dx * dx + dy * dy
    return (distance.to(tl.int32, bitcast=True).to(tl.int64) << 32) | index


@triton.jit
def _index(key, sites):
    """Return the index in a key; a slot that nothing fell into (NaN coordinates) still names a site."""
    return tl.minimum(key & 0x7FFFFFFF, sites - 1).to(tl.int32)


@triton.jit
def _empty(BLOCK: tl.constexpr):
    return tl.full([BLOCK], 0x7FFFFFFFFFFFFFFF, tl.int64)


@triton.jit
def _store_four(p_out, a0, a1, a2, a3, sites, m_point, K: tl.constexpr):
    tl.store(p_out, _index(a0, sites), mask=m_point)
    if K > 1:
        tl.store(p_out + 1, _index(a1, sites), mask=m_point)
    if K > 2:
        tl.store(p_out + 2, _index(a2, sites), mask=m_point)
    if K > 3:
        tl.store(p_out + 3, _index(a3, sites), mask=m_point)


@triton.jit(do_not_specialize=["points", "sites"])
def _search_all(p_points, p_sites, p_out, points, sites, K: tl.constexpr, BLOCK: tl.constexpr):
    """Walk over all sites, keeping the K nearest, K <= 8."""
    i_batch = tl.program_id(1).to(tl.int64)
    o_point = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m_point = o_point < points
    flat = i_batch * points + o_point
    b_x = tl.load(p_points + flat * 2, mask=m_point, other=0.0)
    b_y = tl.load(p_points + flat * 2 + 1, mask=m_point, other=0.0)
    a0, a1, a2, a3 = _empty(BLOCK), _empty(BLOCK), _empty(BLOCK), _empty(BLOCK)
    b0, b1, b2, b3 = _empty(BLOCK), _empty(BLOCK), _empty(BLOCK), _empty(BLOCK)
    p_site = p_sites + i_batch * sites * 2
    for i_site in range(sites):
        x, y = tl.load(p_site + i_site * 2), tl.load(p_site + i_site * 2 + 1)
        a0, a1, a2, a3, left = _insert(a0, a1, a2, a3, _key(b_x - x, b_y - y, i_site))
        if K > 4:
            b0, b1, b2, b3, left = _insert(b0, b1, b2, b3, left)
    _store_four(p_out + flat * K, a0, a1, a2, a3, sites, m_point, K)
    if K > 4:
        _store_four(p_out + flat * K + 4, b0, b1, b2, b3, sites, m_point, K - 4)


@triton.jit(do_not_specialize=["sites", "cells", "width"])
def _search_place(p_sites, p_cells, sites, cells, width, BLOCK: tl.constexpr):
    """Write each site's index into its cell."""
    i_batch = tl.program_id(1).to(tl.int64)
    o_site = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m_site = o_site < sites
    p_site = p_sites + (i_batch * sites + o_site) * 2
    b_column = tl.load(p_site, mask=m_site, other=0.0).to(tl.int32)
    b_row = tl.load(p_site + 1, mask=m_site, other=0.0).to(tl.int32)
    b_cell = b_row * width + b_column
    tl.store(p_cells + i_batch * cells + b_cell, o_site, mask=m_site & (b_cell >= 0) & (b_cell < cells))


@triton.jit
def _visit(p_cells, b_x, b_y, b_column, b_row, height, width, a0, a1, a2, a3):
    """Look into one cell per point and keep its site if it is among the nearest four."""
    m_cell = (b_column >= 0) & (b_column < width) & (b_row >= 0) & (b_row < height)
    b_site = tl.load(p_cells + b_row * width + b_column, mask=m_cell, other=-1)
    b_key = _key(b_x - b_column.to(tl.float32), b_y - b_row.to(tl.float32), b_site)
    a0, a1, a2, a3, _ = _insert(a0, a1, a2, a3, tl.where(b_site >= 0, b_key, 0x7FFFFFFFFFFFFFFF))
    return a0, a1, a2, a3


@triton.jit
def _undecided(kth, outside, reach, extent):
    """Return whether a site outside the window could still be among the K nearest of any point of the block.

    Such a site is ``reach + 0.5`` or more from the point's projection onto the grid, and the two legs meet at no less than a
    right angle, so its squared distance is at least ``(reach + 0.5)² + outside``. The factor covers the rounding of both sides.
    """
    b_final = _distance(kth) < ((reach + 0.5) * (reach + 0.5) + outside) * 0.99999
    return tl.max((~b_final).to(tl.int32), axis=0) * (reach < extent).to(tl.int32)


@triton.jit
def _distance(key):
    """Return the squared distance in a key; NaN for an empty slot."""
    return (key >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _last(a0, a1, a2, a3, K: tl.constexpr):
    return a0 if K == 1 else (a1 if K == 2 else (a2 if K == 3 else a3))


@triton.jit
def _project(b_x, b_y, height, width):
    """Return the closest places inside the grid, how far they are, squared, and the cells they round to."""
    b_inside_x = tl.minimum(tl.maximum(b_x, 0.0), width - 1.0)
    b_inside_y = tl.minimum(tl.maximum(b_y, 0.0), height - 1.0)
    b_outside = (b_x - b_inside_x) * (b_x - b_inside_x) + (b_y - b_inside_y) * (b_y - b_inside_y)
    # Clipped once more as integers: NaN has no cell.
    b_column = tl.minimum(tl.maximum((b_inside_x + 0.5).to(tl.int32), 0), width - 1)
    b_row = tl.minimum(tl.maximum((b_inside_y + 0.5).to(tl.int32), 0), height - 1)
    return b_outside, b_column, b_row


@triton.jit
def _rings(
    p_image, b_x, b_y, b_outside, b_column, b_row, height, width, K: tl.constexpr, BLOCK: tl.constexpr, REACH: tl.constexpr
):
    """Look at a window of cells around each point, then at ring after ring, until no ring can hold a nearer site; K <= 4."""
    a0, a1, a2, a3 = _empty(BLOCK), _empty(BLOCK), _empty(BLOCK), _empty(BLOCK)
    for down in range(-REACH, REACH + 1):
        for across in tl.static_range(-REACH, REACH + 1):  # unrolled: the loads of a row travel together
            a0, a1, a2, a3 = _visit(p_image, b_x, b_y, b_column + across, b_row + down, height, width, a0, a1, a2, a3)
    extent = tl.maximum(height, width)
    reach = REACH + 0
    undecided = _undecided(_last(a0, a1, a2, a3, K), b_outside, reach, extent)
    while undecided > 0:
        reach += 1
        for along in range(-reach, reach):
            # One cell of each of the ring's four sides of 2·reach cells: four loads travel together.
            a0, a1, a2, a3 = _visit(p_image, b_x, b_y, b_column + along, b_row - reach, height, width, a0, a1, a2, a3)
            a0, a1, a2, a3 = _visit(p_image, b_x, b_y, b_column + reach, b_row + along, height, width, a0, a1, a2, a3)
            a0, a1, a2, a3 = _visit(p_image, b_x, b_y, b_column - along, b_row + reach, height, width, a0, a1, a2, a3)
            a0, a1, a2, a3 = _visit(p_image, b_x, b_y, b_column - reach, b_row - along, height, width, a0, a1, a2, a3)
        undecided = _undecided(_last(a0, a1, a2, a3, K), b_outside, reach, extent)
    return a0, a1, a2, a3


@triton.jit(do_not_specialize=["height", "width"])
def _search_around(
    p_cells, p_near, p_counts, p_radii, height, width,
    K: tl.constexpr, MOST: tl.constexpr, SIDE: tl.constexpr, ACROSS: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    """List for every cell the sites that can be among the K nearest of a point in it, and the radius that the list covers.

    With ``D`` the distance of the K-th nearest site from the cell's centre, a point in the cell has its K nearest within
    ``D + √2`` of the centre: half the diagonal there, half the diagonal back. Points outside of the grid belong to the cell at
    the border that they project to; a longer list there serves those up to 4 cells away.
    """
    i_batch = tl.program_id(1).to(tl.int64)
    squares = (width + SIDE - 1) // SIDE
    o_own = tl.arange(0, SIDE * SIDE)
    b_row = tl.program_id(0) // squares * SIDE + o_own // SIDE
    b_column = tl.program_id(0) % squares * SIDE + o_own % SIDE
    m_cell = (b_row < height) & (b_column < width)
    b_row, b_column = tl.minimum(b_row, height - 1), tl.minimum(b_column, width - 1)
    b_x, b_y = b_column.to(tl.float32), b_row.to(tl.float32)
    cells = height * width
    o_cell = i_batch * cells + b_row * width + b_column
    p_image = p_cells + i_batch * cells
    a0, a1, a2, a3 = _rings(p_image, b_x, b_y, b_x * 0.0, b_column, b_row, height, width, K, SIDE * SIDE, REACH)
    b_far = tl.sqrt(_distance(_last(a0, a1, a2, a3, K)))
    b_radius = b_far + 1.43
    m_border = (b_row == 0) | (b_column == 0) | (b_row == height - 1) | (b_column == width - 1)
    b_radius = tl.where(m_border, 0.72 + tl.sqrt((b_far + 0.72) * (b_far + 0.72) + 8.0 * b_far), b_radius)
    b_limit = b_radius * b_radius
    reach = tl.minimum(tl.max(tl.where(m_cell, b_radius, 0.0), axis=0), tl.maximum(height, width) + 0.0).to(tl.int32)
    b_count = tl.zeros([SIDE * SIDE], tl.int32)
    chunks = (2 * reach + ACROSS) // ACROSS
    for step in range((2 * reach + 1) * chunks):
        down = step // chunks - reach
        o_across = step % chunks * ACROSS - reach + tl.arange(0, ACROSS)
        b_there = b_column[:, None] + o_across[None, :]
        m_there = (b_there >= 0) & (b_there < width) & (o_across <= reach)[None, :]
        m_there = m_there & (m_cell & (b_row + down >= 0) & (b_row + down < height))[:, None]
        m_there = m_there & ((down * down + o_across * o_across).to(tl.float32)[None, :] <= b_limit[:, None])
        b_site = tl.load(p_image + ((b_row + down) * width)[:, None] + b_there, mask=m_there, other=-1)
        m_site = b_site >= 0
        b_one = m_site.to(tl.int32)
        b_slot = b_count[:, None] + tl.cumsum(b_one, axis=1) - 1
        b_entry = (b_site << 16) | ((down + 128) << 8) | (o_across + 128)[None, :]
        tl.store(p_near + o_cell[:, None] * MOST + b_slot, b_entry, mask=m_site & (b_slot < MOST))
        b_count += tl.sum(b_one, axis=1)
    # A list that is too short covers nothing, and neither does one with offsets that do not fit into a byte.
    m_whole = (b_count <= MOST) & (reach < 128)
    tl.store(p_counts + o_cell, tl.where(m_whole, b_count, 0), mask=m_cell)
    tl.store(p_radii + o_cell, tl.where(m_whole, b_radius, 0.0), mask=m_cell)


@triton.jit(do_not_specialize=["points", "sites", "height", "width"])
def _search_listed(
    p_points, p_cells, p_near, p_counts, p_radii, p_out, points, sites, height, width,
    K: tl.constexpr, MOST: tl.constexpr, BLOCK: tl.constexpr, REACH: tl.constexpr,
):  # fmt: skip
    """Go through the list of each point's cell; where one of a block is not enough, look at rings of cells."""
    i_batch = tl.program_id(1).to(tl.int64)
    o_point = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m_point = o_point < points
    flat = i_batch * points + o_point
    b_x = tl.load(p_points + flat * 2, mask=m_point, other=0.0)
    b_y = tl.load(p_points + flat * 2 + 1, mask=m_point, other=0.0)
    b_outside, b_column, b_row = _project(b_x, b_y, height, width)
    p_image = p_cells + i_batch * height * width
    o_cell = i_batch * height * width + b_row * width + b_column
    b_count = tl.load(p_counts + o_cell, mask=m_point, other=0)
    a0, a1, a2, a3 = _empty(BLOCK), _empty(BLOCK), _empty(BLOCK), _empty(BLOCK)
    for entry in range(tl.max(b_count, axis=0)):
        m_entry = entry < b_count
        b_entry = tl.load(p_near + o_cell * MOST + entry, mask=m_entry, other=0)
        b_dx = b_x - (b_column + (b_entry & 255) - 128).to(tl.float32)
        b_dy = b_y - (b_row + ((b_entry >> 8) & 255) - 128).to(tl.float32)
        b_key = _key(b_dx, b_dy, (b_entry >> 16) & 0xFFFF)
        a0, a1, a2, a3, _ = _insert(a0, a1, a2, a3, tl.where(m_entry, b_key, 0x7FFFFFFFFFFFFFFF))
    # What is not listed is farther from the cell's centre than the radius, so from the projected point, too, less half a
    # diagonal; and the two legs to a point outside meet at no less than a right angle.
    b_rest = tl.load(p_radii + o_cell, mask=m_point, other=0.0) - 0.7072
    b_final = _distance(_last(a0, a1, a2, a3, K)) < (tl.maximum(b_rest, 0.0) * tl.maximum(b_rest, 0.0) + b_outside) * 0.99999
    if tl.max((m_point & ~(b_final & (b_rest > 0))).to(tl.int32), axis=0) > 0:
        a0, a1, a2, a3 = _rings(p_image, b_x, b_y, b_outside, b_column, b_row, height, width, K, BLOCK, REACH)
    _store_four(p_out + flat * K, a0, a1, a2, a3, sites, m_point, K)


def make_index(sites: Tensor, k: int, grid: tuple[int, int]) -> SiteIndex:
    """List the sites that matter to each cell; ``sites`` float32 ``[B, n, 2]``, ``k <= 4``."""
    batch, total = sites.shape[:2]
    height, width = grid
    cells = height * width
    made = SiteIndex(
        cells=torch.full((batch, cells), -1, dtype=torch.int32, device=sites.device),
        near=torch.empty(batch, cells, index.LISTED, dtype=torch.int32, device=sites.device),
        counts=torch.empty(batch, cells, dtype=torch.int32, device=sites.device),
        radii=torch.empty(batch, cells, dtype=torch.float32, device=sites.device),
    )
    launch(
        "nearest", sites.device, _search_place, (tiles(total, BLOCK), batch),
        sites.contiguous(), made.cells, total, cells, width, BLOCK=BLOCK, num_warps=2, enable_fp_fusion=False,
    )  # fmt: skip
    launch(
        "nearest", sites.device, _search_around, (tiles(height, SIDE) * tiles(width, SIDE), batch),
        made.cells, made.near, made.counts, made.radii, height, width,
        K=k, MOST=index.LISTED, SIDE=SIDE, ACROSS=ACROSS, REACH=REACH, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return made


def search(
    points: Tensor, sites: Tensor, k: int, grid: tuple[int, int] | None, dtype: torch.dtype = torch.int32,
    known: SiteIndex | None = None,
) -> Tensor:  # fmt: skip
    """Return the ids of the k nearest sites, ``[B, P, k]`` of an integer dtype, nearest first, ties to the lower index.

    Parameters
    ----------
    points, sites
        float32 ``[B, P, 2]`` and ``[B, n, 2]``, ``k <= min(n, 8)``.
    grid
        As in :func:`~affmae_kernels.nearest`.
    known
        The index of these sites for at least ``k``, if there is one already.
    """
    batch, count = points.shape[:2]
    total = sites.shape[1]
    points, sites = points.contiguous(), sites.contiguous()
    found = index_memory(batch, count, k, dtype=dtype, device=points.device)
    if count == 0:
        return found
    if grid is None or not index.is_indexed(total, k, grid):
        launch(
            "nearest", points.device, _search_all, (tiles(count, BLOCK), batch),
            points, sites, found, count, total, K=k, BLOCK=BLOCK, num_warps=2, enable_fp_fusion=False
        )  # fmt: skip
        return found
    known = known or make_index(sites, k, grid)
    launch(
        "nearest", points.device, _search_listed, (tiles(count, LOOK_UP), batch),
        points, *known, found, count, total, *grid,
        K=k, MOST=index.LISTED, BLOCK=LOOK_UP, REACH=REACH, num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
    return found
