"""Lists of the key tiles that a query tile needs, and of the query tiles that need a key tile, made once for several layers.

A query tile is ``QUERIES`` consecutive rows of ``clusters [B, q, c]``; a key tile is ``KEYS`` consecutive tokens, which are a
few clusters or parts of them. Each query tile lists the key tiles that it meets, and keeps next to every entry, per query, how
often the query lists each cluster of that tile: a few bits per cluster, packed into one integer. The same table read by columns
lists the query tiles of every key tile, for the gradients of keys: with them no kernel adds into memory that another one adds
into, so sums have one order and need no atomics.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import power_of_two, tiles
from .._launch import launch
from .packing import ClusterTiles, Packing

SCAN = 16
"""Tiles that one step of a list-building program looks at."""


@triton.jit
def shifts(start, m_key, CLUSTER: tl.constexpr, TILE: tl.constexpr, BITS: tl.constexpr, TOP: tl.constexpr):
    """Return where in a packed integer the count of each key's cluster begins, for the tile of keys from ``start`` on.

    A key that is not there gets the top bit, which is empty.
    """
    return tl.where(m_key, ((start + tl.arange(0, TILE)) // CLUSTER - start // CLUSTER) * BITS, TOP)


@triton.jit
def times(b_packed, b_shift, MASK: tl.constexpr, KEYS_FIRST: tl.constexpr):
    """Return how often each query lists each key's cluster, float32 ``[queries, keys]`` or the other way round."""
    b_place = b_shift.to(b_packed.dtype)
    if KEYS_FIRST:  # noqa: SIM108 - Triton has no conditional blocks of two shapes
        b_counts = (b_packed[None, :] >> b_place[:, None]) & MASK
    else:
        b_counts = (b_packed[:, None] >> b_place[None, :]) & MASK
    return b_counts.to(tl.int32).to(tl.float32)


@triton.jit(do_not_specialize=["queries", "tokens", "query_tiles", "key_tiles", "width"])
def _tiles_mark(
    p_clusters, p_slots, p_lists, p_counts, p_times, queries, tokens, query_tiles, key_tiles, width,
    CLUSTER: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, SCAN: tl.constexpr,
    BITS: tl.constexpr,
):  # fmt: skip
    i_tile, i_batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    o_own, o_near = tl.arange(0, QUERIES), tl.arange(0, CP)
    o_query = i_tile * QUERIES + o_own
    m_entry = (o_query < queries)[:, None] & (o_near < C)[None, :]
    p_entry = p_clusters + (i_batch * queries + o_query)[:, None] * C + o_near[None, :]
    b_cluster = tl.load(p_entry, mask=m_entry, other=0).to(tl.int32)
    b_first = b_cluster * CLUSTER
    b_last = tl.where(m_entry, tl.minimum(b_first + CLUSTER, tokens), b_first)  # an empty range meets no tile

    i_row = i_batch * query_tiles + i_tile
    found = 0
    for start in range(0, key_tiles, SCAN):
        o_tile = start + tl.arange(0, SCAN)
        m_tile = o_tile < key_tiles
        p_slot = p_slots + i_row * key_tiles + o_tile
        # Neighbours lie in few places of the order: most runs of tiles meet nothing, and are told at a glance.
        b_near = (b_first < (start + SCAN) * KEYS) & (b_last > start * KEYS)
        if tl.max(tl.max(b_near.to(tl.int32), axis=1), axis=0) > 0:
            b_from = (o_tile * KEYS)[None, None, :]
            b_meet = (b_first[:, :, None] < b_from + KEYS) & (b_last[:, :, None] > b_from)
            b_place = tl.where(b_meet, b_cluster[:, :, None] - b_from // CLUSTER, 0) * BITS
            b_times = tl.sum(b_meet.to(p_times.dtype.element_ty) << b_place.to(p_times.dtype.element_ty), axis=1)
            b_one = ((tl.max((b_times > 0).to(tl.int32), axis=0) > 0) & m_tile).to(tl.int32)
            b_slot = found + tl.cumsum(b_one, axis=0) - 1
            tl.store(p_slot, (b_one * (b_slot + 1)).to(tl.int16), mask=m_tile)
            tl.store(p_lists + i_row * width + b_slot, o_tile, mask=b_one > 0)
            p_packed = p_times + (i_row * width + b_slot)[None, :] * QUERIES + o_own[:, None]
            tl.store(p_packed, b_times, mask=(b_one > 0)[None, :] & (o_own >= 0)[:, None])
            found += tl.sum(b_one, axis=0)
        else:
            tl.store(p_slot, tl.zeros([SCAN], tl.int16), mask=m_tile)
    tl.store(p_counts + i_row, found)


@triton.jit(do_not_specialize=["query_tiles", "key_tiles"])
def _tiles_turn(p_slots, p_lists, p_key_slots, p_counts, query_tiles, key_tiles, SCAN: tl.constexpr):
    i_tile, i_batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = (i_batch * key_tiles + i_tile) * query_tiles
    found = 0
    for start in range(0, query_tiles, SCAN):
        o_tile = start + tl.arange(0, SCAN)
        m_tile = o_tile < query_tiles
        b_slot = tl.load(p_slots + (i_batch * query_tiles + o_tile) * key_tiles + i_tile, mask=m_tile, other=0).to(tl.int32)
        b_one = (b_slot > 0).to(tl.int32)
        o_entry = row + found + tl.cumsum(b_one, axis=0) - 1
        tl.store(p_lists + o_entry, o_tile, mask=b_one > 0)
        tl.store(p_key_slots + o_entry, (b_slot - 1).to(tl.int16), mask=b_one > 0)
        found += tl.sum(b_one, axis=0)
    tl.store(p_counts + i_batch * key_tiles + i_tile, found)


def meetings(clusters: Tensor, packing: Packing, tokens: int, queries_per_tile: int, keys_per_tile: int) -> ClusterTiles:
    """Return which tiles meet, for clusters int64 ``[B, q, c]``."""
    batch, queries, near = clusters.shape
    device = clusters.device
    query_tiles, key_tiles = tiles(queries, queries_per_tile), tiles(tokens, keys_per_tile)
    width = min(key_tiles, queries_per_tile * near * packing.tiles_per_cluster)
    slots = torch.empty(batch, query_tiles, key_tiles, dtype=torch.int16, device=device)
    made = ClusterTiles(
        lists=torch.empty(batch, query_tiles, width, dtype=torch.int32, device=device),
        counts=torch.empty(batch, query_tiles, dtype=torch.int32, device=device),
        times=torch.empty(batch, query_tiles, width, queries_per_tile, dtype=packing.dtype, device=device),
        key_lists=torch.empty(batch, key_tiles, query_tiles, dtype=torch.int32, device=device),
        key_slots=torch.empty(batch, key_tiles, query_tiles, dtype=torch.int16, device=device),
        key_counts=torch.empty(batch, key_tiles, dtype=torch.int32, device=device),
    )
    launch(
        "tile lists", device, _tiles_mark, (query_tiles, batch),
        clusters.contiguous(), slots, made.lists, made.counts, made.times, queries, tokens, query_tiles, key_tiles, width,
        CLUSTER=packing.cluster_size, C=near, CP=power_of_two(near), QUERIES=queries_per_tile, KEYS=keys_per_tile, SCAN=SCAN,
        BITS=packing.bits, enable_fp_fusion=True,
    )  # fmt: skip
    launch(
        "tile lists", device, _tiles_turn, (key_tiles, batch),
        slots, made.key_lists, made.key_slots, made.key_counts, query_tiles, key_tiles, SCAN=SCAN, enable_fp_fusion=True,
    )  # fmt: skip
    return made
