"""Lists of the key tiles that a query tile needs, and of the query tiles that need a key tile.

A query tile is ``QUERIES`` consecutive rows of ``clusters [B, q, c]``; a key tile is ``KEYS`` consecutive tokens. The table
``hits [B, query tiles, key tiles]`` says who meets whom. Its rows are compacted into lists for the forward pass and for the
gradient of queries; its columns, into lists for the gradients of keys: with them no kernel adds into memory that another one
adds into, so sums have one order and need no atomics.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import power_of_two, tiles
from .._launch import launch

SCAN = 32
"""Tiles that one step of a list-building program looks at."""


@triton.jit(do_not_specialize=["queries", "tokens", "query_tiles", "key_tiles"])
def _tiles_mark(
    p_clusters, p_hits, p_lists, p_counts, queries, tokens, query_tiles, key_tiles,
    CLUSTER: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, SCAN: tl.constexpr,
):  # fmt: skip
    i_tile, i_batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    o_entry = tl.arange(0, QUERIES * CP)
    o_query, o_near = i_tile * QUERIES + o_entry // CP, o_entry % CP
    m_entry = (o_query < queries) & (o_near < C)
    b_first = tl.load(p_clusters + (i_batch * queries + o_query) * C + o_near, mask=m_entry, other=0).to(tl.int32) * CLUSTER
    b_last = tl.minimum(b_first + CLUSTER, tokens)
    b_last = tl.where(m_entry, b_last, b_first)  # an empty range meets no tile

    row = (i_batch * query_tiles + i_tile) * key_tiles
    found = 0
    for start in range(0, key_tiles, SCAN):
        o_tile = start + tl.arange(0, SCAN)
        m_tile = o_tile < key_tiles
        b_from = o_tile[None, :] * KEYS
        b_meet = (b_first[:, None] < b_from + KEYS) & (b_last[:, None] > b_from)
        b_hit = (tl.max(b_meet.to(tl.int32), axis=0) > 0) & m_tile
        b_one = b_hit.to(tl.int32)
        tl.store(p_hits + row + o_tile, b_one.to(tl.uint8), mask=m_tile)
        tl.store(p_lists + row + found + tl.cumsum(b_one, axis=0) - 1, o_tile, mask=b_hit)
        found += tl.sum(b_one, axis=0)
    tl.store(p_counts + i_batch * query_tiles + i_tile, found)


@triton.jit(do_not_specialize=["query_tiles", "key_tiles"])
def _tiles_turn(p_hits, p_lists, p_counts, query_tiles, key_tiles, SCAN: tl.constexpr):
    i_tile, i_batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = (i_batch * key_tiles + i_tile) * query_tiles
    found = 0
    for start in range(0, query_tiles, SCAN):
        o_tile = start + tl.arange(0, SCAN)
        m_tile = o_tile < query_tiles
        b_one = tl.load(p_hits + (i_batch * query_tiles + o_tile) * key_tiles + i_tile, mask=m_tile, other=0).to(tl.int32)
        tl.store(p_lists + row + found + tl.cumsum(b_one, axis=0) - 1, o_tile, mask=b_one > 0)
        found += tl.sum(b_one, axis=0)
    tl.store(p_counts + i_batch * key_tiles + i_tile, found)


def key_tiles_of_queries(
    clusters: Tensor, cluster_size: int, tokens: int, queries_per_tile: int, keys_per_tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return who meets whom, and for each query tile the list of its key tiles in ascending order, and the list's length.

    Parameters
    ----------
    clusters
        int64 ``[B, q, c]``, contiguous.

    Returns
    -------
    hits
        uint8 ``[B, query tiles, key tiles]``.
    lists, counts
        int32 ``[B, query tiles, key tiles]``, of which the first ``counts [B, query tiles]`` entries are meant.
    """
    batch, queries, near = clusters.shape
    query_tiles, key_tiles = tiles(queries, queries_per_tile), tiles(tokens, keys_per_tile)
    hits = torch.empty(batch, query_tiles, key_tiles, dtype=torch.uint8, device=clusters.device)
    lists = torch.empty(batch, query_tiles, key_tiles, dtype=torch.int32, device=clusters.device)
    counts = torch.empty(batch, query_tiles, dtype=torch.int32, device=clusters.device)
    launch(
        "tile lists", clusters.device, _tiles_mark, (query_tiles, batch),
        clusters, hits, lists, counts, queries, tokens, query_tiles, key_tiles,
        CLUSTER=cluster_size, C=near, CP=power_of_two(near), QUERIES=queries_per_tile, KEYS=keys_per_tile, SCAN=SCAN,
        enable_fp_fusion=True,
    )  # fmt: skip
    return hits, lists, counts


def query_tiles_of_keys(hits: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each key tile the list of query tiles that meet it, and its length: the columns of ``hits``."""
    batch, query_tiles, key_tiles = hits.shape
    lists = torch.empty(batch, key_tiles, query_tiles, dtype=torch.int32, device=hits.device)
    counts = torch.empty(batch, key_tiles, dtype=torch.int32, device=hits.device)
    launch(
        "tile lists", hits.device, _tiles_turn, (key_tiles, batch),
        hits, lists, counts, query_tiles, key_tiles, SCAN=SCAN, enable_fp_fusion=True,
    )  # fmt: skip
    return lists, counts
