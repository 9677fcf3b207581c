"""Cluster attention on the matrix units: tiles of queries meet tiles of keys; logits never leave the chip.

Four clusters are one tile. A query tile walks over the tiles that hold any of its neighbour clusters (see ``tiles``) and reads,
for every query and key, how often the query lists the key's cluster: 0 masks, 2 weighs a cluster listed twice as the reference
does. The position bias is five multiply-adds from two positions. The backward pass computes logits again from the
saved log-sum-exp; its maths is in ``kernels/README.md``.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import LEAST_DOT, TILE, power_of_two, precision, tiles
from .._launch import launch
from .._offsets import offset_features
from ..sums.triton_kernels import column_sum
from ..tiles.packing import ClusterTiles, packing_of
from ..tiles.triton_kernels import shifts, times

FEATURES = 6
"""Columns of the gradient of the bias: five features and the constant."""


@triton.jit
def _bias(dx, dy, p_weight, p_bias, i_head):
    """Return the position bias of a block of offsets."""
    dx, dy, r, sine, cosine = offset_features(dx, dy)
    p_head = p_weight + i_head * 5
    total = tl.load(p_head).to(tl.float32) * dx + tl.load(p_head + 1).to(tl.float32) * dy
    total += tl.load(p_head + 2).to(tl.float32) * r + tl.load(p_head + 3).to(tl.float32) * sine
    return total + tl.load(p_head + 4).to(tl.float32) * cosine + tl.load(p_bias + i_head).to(tl.float32)


@triton.jit(do_not_specialize=["tokens", "heads", "token_tiles", "width"])
def _attention_forward(
    p_query, p_key, p_value, p_place, p_times, p_weight, p_bias, p_blank_key, p_blank_value, p_out, p_lse, p_lists, p_counts,
    tokens, heads, token_tiles, width, scale, q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head,
    LISTED: tl.constexpr, CLUSTER: tl.constexpr, BITS: tl.constexpr, MASK: tl.constexpr, TOP: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    i_tile, i_head, i_batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_query, o_dim = i_tile * TILE + tl.arange(0, TILE), tl.arange(0, BD)
    m_query, m_dim = o_query < tokens, o_dim < D
    row = i_batch * tokens
    p_q = p_query + i_batch * q_batch + i_head * q_head + o_query[:, None].to(tl.int64) * q_token + o_dim[None, :]
    b_query = tl.load(p_q, mask=m_query[:, None] & m_dim[None, :], other=0.0)
    b_x = tl.load(p_place + (row + o_query) * 2, mask=m_query, other=0.0)
    b_y = tl.load(p_place + (row + o_query) * 2 + 1, mask=m_query, other=0.0)
    b_blank_key = tl.load(p_blank_key + i_head * D + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_blank_value = tl.load(p_blank_value + i_head * D + o_dim, mask=m_dim, other=0.0).to(tl.float32)

    # The blank token is the first key: the running maximum, the running sum and the mix start from it and are never empty.
    b_max = tl.sum(b_query.to(tl.float32) * b_blank_key[None, :], axis=1) * scale
    b_sum = tl.full([TILE], 1.0, tl.float32)
    b_mix = tl.zeros([TILE, BD], tl.float32) + b_blank_value[None, :]
    steps = token_tiles
    if LISTED:
        steps = tl.load(p_counts + i_batch * token_tiles + i_tile)
    for step in range(steps):
        i_key_tile = step
        if LISTED:
            i_entry = (i_batch * token_tiles + i_tile) * width + step
            i_key_tile = tl.load(p_lists + i_entry)
        o_key = i_key_tile * TILE + tl.arange(0, TILE)
        m_key = o_key < tokens
        o_row = o_key[:, None].to(tl.int64)
        m_row = m_key[:, None] & m_dim[None, :]
        b_key = tl.load(p_key + i_batch * k_batch + i_head * k_head + o_row * k_token + o_dim[None, :], mask=m_row, other=0.0)
        b_value = tl.load(
            p_value + i_batch * v_batch + i_head * v_head + o_row * v_token + o_dim[None, :], mask=m_row, other=0.0
        )
        b_kx = tl.load(p_place + (row + o_key) * 2, mask=m_key, other=0.0)
        b_ky = tl.load(p_place + (row + o_key) * 2 + 1, mask=m_key, other=0.0)

        b_logit = tl.dot(b_query, tl.trans(b_key), input_precision=PRECISION) * scale
        b_logit += _bias(b_kx[None, :] - b_x[:, None], b_ky[None, :] - b_y[:, None], p_weight, p_bias, i_head)
        if LISTED:
            b_packed = tl.load(p_times + i_entry * TILE + tl.arange(0, TILE))
            b_times = times(b_packed, shifts(i_key_tile * TILE, m_key, CLUSTER, TILE, BITS, TOP), MASK, False)
        else:
            b_times = (m_query[:, None] & m_key[None, :]).to(tl.float32)
        b_logit = tl.where(b_times > 0, b_logit, float("-inf"))
        b_new = tl.maximum(b_max, tl.max(b_logit, axis=1))
        b_weight = tl.exp(b_logit - b_new[:, None]) * b_times
        b_shrink = tl.exp(b_max - b_new)
        b_sum = b_sum * b_shrink + tl.sum(b_weight, axis=1)
        b_mix = b_mix * b_shrink[:, None]
        b_mix += tl.dot(b_weight.to(b_value.dtype), b_value, input_precision=PRECISION)
        b_max = b_new

    b_out = b_mix / b_sum[:, None]
    p_o = p_out + ((row + o_query[:, None]) * heads + i_head) * D + o_dim[None, :]
    tl.store(p_o, b_out.to(p_out.dtype.element_ty), mask=m_query[:, None] & m_dim[None, :])
    tl.store(p_lse + (i_batch * heads + i_head) * tokens + o_query, b_max + tl.log(b_sum), mask=m_query)


@triton.jit(do_not_specialize=["tokens", "heads", "token_tiles", "width"])
def _attention_backward_query(
    p_query, p_key, p_value, p_place, p_times, p_weight, p_bias, p_blank_key, p_blank_value, p_out, p_grad, p_lse, p_delta,
    p_grad_query, p_partial, p_lists, p_counts,
    tokens, heads, token_tiles, width, scale, q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head,
    LISTED: tl.constexpr, CLUSTER: tl.constexpr, BITS: tl.constexpr, MASK: tl.constexpr, TOP: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the queries, and this tile's part of the gradients of bias and blank token.

    ``delta_i = out_i · grad_i`` is also ``sum_j a_ij (grad_i · v_j)``. The bias's gradient is what is left of sums that nearly
    cancel, so the rounding of a half-precision ``out`` would drown it: the drift between the two is measured on the way and
    taken out at the end.
    """
    i_tile, i_head, i_batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_query, o_dim = i_tile * TILE + tl.arange(0, TILE), tl.arange(0, BD)
    m_query, m_dim = o_query < tokens, o_dim < D
    m_own = m_query[:, None] & m_dim[None, :]
    row = i_batch * tokens
    p_q = p_query + i_batch * q_batch + i_head * q_head + o_query[:, None].to(tl.int64) * q_token + o_dim[None, :]
    b_query = tl.load(p_q, mask=m_own, other=0.0)
    o_flat = ((row + o_query[:, None]) * heads + i_head) * D + o_dim[None, :]
    b_grad = tl.load(p_grad + o_flat, mask=m_own, other=0.0)
    b_out = tl.load(p_out + o_flat, mask=m_own, other=0.0).to(tl.float32)
    b_delta = tl.sum(b_out * b_grad.to(tl.float32), axis=1)
    o_stat = (i_batch * heads + i_head) * tokens + o_query
    b_lse = tl.load(p_lse + o_stat, mask=m_query, other=0.0)
    b_x = tl.load(p_place + (row + o_query) * 2, mask=m_query, other=0.0)
    b_y = tl.load(p_place + (row + o_query) * 2 + 1, mask=m_query, other=0.0)

    b_blank_key = tl.load(p_blank_key + i_head * D + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_blank_value = tl.load(p_blank_value + i_head * D + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_blank = tl.exp(tl.sum(b_query.to(tl.float32) * b_blank_key[None, :], axis=1) * scale - b_lse)
    b_blank = tl.where(m_query, b_blank, 0.0)
    b_blank_pull = tl.sum(b_grad.to(tl.float32) * b_blank_value[None, :], axis=1)
    b_grad_query = tl.zeros([TILE, BD], tl.float32)

    # Per query: sums over keys of slope · feature, and of weight · feature for the drift.
    b_dx = tl.zeros([TILE], tl.float32)
    b_dy = tl.zeros([TILE], tl.float32)
    b_r = tl.zeros([TILE], tl.float32)
    b_sine = tl.zeros([TILE], tl.float32)
    b_cosine = tl.zeros([TILE], tl.float32)
    b_one = tl.zeros([TILE], tl.float32)
    w_dx = tl.zeros([TILE], tl.float32)
    w_dy = tl.zeros([TILE], tl.float32)
    w_r = tl.zeros([TILE], tl.float32)
    w_sine = tl.zeros([TILE], tl.float32)
    w_cosine = tl.zeros([TILE], tl.float32)
    w_one = tl.zeros([TILE], tl.float32)
    steps = token_tiles
    if LISTED:
        steps = tl.load(p_counts + i_batch * token_tiles + i_tile)
    for step in range(steps):
        i_key_tile = step
        if LISTED:
            i_entry = (i_batch * token_tiles + i_tile) * width + step
            i_key_tile = tl.load(p_lists + i_entry)
        o_key = i_key_tile * TILE + tl.arange(0, TILE)
        m_key = o_key < tokens
        o_row = o_key[:, None].to(tl.int64)
        m_row = m_key[:, None] & m_dim[None, :]
        b_key = tl.load(p_key + i_batch * k_batch + i_head * k_head + o_row * k_token + o_dim[None, :], mask=m_row, other=0.0)
        b_value = tl.load(
            p_value + i_batch * v_batch + i_head * v_head + o_row * v_token + o_dim[None, :], mask=m_row, other=0.0
        )
        b_kx = tl.load(p_place + (row + o_key) * 2, mask=m_key, other=0.0)
        b_ky = tl.load(p_place + (row + o_key) * 2 + 1, mask=m_key, other=0.0)
        if LISTED:
            b_packed = tl.load(p_times + i_entry * TILE + tl.arange(0, TILE))
            b_times = times(b_packed, shifts(i_key_tile * TILE, m_key, CLUSTER, TILE, BITS, TOP), MASK, False)
        else:
            b_times = (m_query[:, None] & m_key[None, :]).to(tl.float32)
        offset_x, offset_y = b_kx[None, :] - b_x[:, None], b_ky[None, :] - b_y[:, None]
        b_logit = tl.dot(b_query, tl.trans(b_key), input_precision=PRECISION) * scale
        b_logit += _bias(offset_x, offset_y, p_weight, p_bias, i_head)
        b_logit = tl.where(b_times > 0, b_logit, float("-inf"))
        b_weight = tl.exp(b_logit - b_lse[:, None]) * b_times
        b_pull = tl.dot(b_grad, tl.trans(b_value), input_precision=PRECISION)
        b_slope = b_weight * (b_pull - b_delta[:, None])
        b_grad_query += tl.dot(b_slope.to(b_key.dtype), b_key, input_precision=PRECISION)

        dx, dy, r, sine, cosine = offset_features(offset_x, offset_y)
        b_dx += tl.sum(b_slope * dx, axis=1)
        b_dy += tl.sum(b_slope * dy, axis=1)
        b_r += tl.sum(b_slope * r, axis=1)
        b_sine += tl.sum(b_slope * sine, axis=1)
        b_cosine += tl.sum(b_slope * cosine, axis=1)
        b_one += tl.sum(b_slope, axis=1)
        w_dx += tl.sum(b_weight * dx, axis=1)
        w_dy += tl.sum(b_weight * dy, axis=1)
        w_r += tl.sum(b_weight * r, axis=1)
        w_sine += tl.sum(b_weight * sine, axis=1)
        w_cosine += tl.sum(b_weight * cosine, axis=1)
        w_one += tl.sum(b_weight, axis=1)

    b_drift = b_one + b_blank * (b_blank_pull - b_delta)
    tl.store(p_delta + o_stat, b_delta + b_drift, mask=m_query)
    b_blank_slope = b_blank * (b_blank_pull - b_delta - b_drift)
    b_grad_query += b_blank_slope[:, None] * b_blank_key[None, :]
    b_grad_blank_key = tl.sum(b_blank_slope[:, None] * b_query.to(tl.float32), axis=0) * scale
    b_grad_blank_value = tl.sum(b_blank[:, None] * b_grad.to(tl.float32), axis=0)
    tl.store(p_grad_query + o_flat, (b_grad_query * scale).to(p_grad_query.dtype.element_ty), mask=m_own)
    # One after the other in memory: bias weights of all heads, biases, blank keys, blank values.
    p_part = p_partial + (i_batch * token_tiles + i_tile) * heads * (6 + 2 * D)
    p_mine = p_part + i_head * 5
    tl.store(p_mine, tl.sum(b_dx - b_drift * w_dx, axis=0))
    tl.store(p_mine + 1, tl.sum(b_dy - b_drift * w_dy, axis=0))
    tl.store(p_mine + 2, tl.sum(b_r - b_drift * w_r, axis=0))
    tl.store(p_mine + 3, tl.sum(b_sine - b_drift * w_sine, axis=0))
    tl.store(p_mine + 4, tl.sum(b_cosine - b_drift * w_cosine, axis=0))
    tl.store(p_part + 5 * heads + i_head, tl.sum(b_one - b_drift * w_one, axis=0))
    tl.store(p_part + 6 * heads + i_head * D + o_dim, b_grad_blank_key, mask=m_dim)
    tl.store(p_part + (6 + D) * heads + i_head * D + o_dim, b_grad_blank_value, mask=m_dim)


@triton.jit(do_not_specialize=["tokens", "heads", "token_tiles", "width"])
def _attention_backward_key(
    p_query, p_key, p_value, p_place, p_times, p_weight, p_bias, p_grad, p_lse, p_delta, p_grad_key, p_grad_value,
    p_lists, p_slots, p_counts,
    tokens, heads, token_tiles, width, scale, q_batch, q_token, q_head, k_batch, k_token, k_head, v_batch, v_token, v_head,
    LISTED: tl.constexpr, CLUSTER: tl.constexpr, BITS: tl.constexpr, MASK: tl.constexpr, TOP: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values: every key tile collects from the query tiles that meet it, in one fixed order."""
    i_tile, i_head, i_batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_key, o_dim = i_tile * TILE + tl.arange(0, TILE), tl.arange(0, BD)
    m_key, m_dim = o_key < tokens, o_dim < D
    m_own = m_key[:, None] & m_dim[None, :]
    row = i_batch * tokens
    o_row = o_key[:, None].to(tl.int64)
    b_key = tl.load(p_key + i_batch * k_batch + i_head * k_head + o_row * k_token + o_dim[None, :], mask=m_own, other=0.0)
    b_value = tl.load(p_value + i_batch * v_batch + i_head * v_head + o_row * v_token + o_dim[None, :], mask=m_own, other=0.0)
    b_kx = tl.load(p_place + (row + o_key) * 2, mask=m_key, other=0.0)
    b_ky = tl.load(p_place + (row + o_key) * 2 + 1, mask=m_key, other=0.0)
    b_shift = shifts(i_tile * TILE, m_key, CLUSTER, TILE, BITS, TOP)
    b_grad_key = tl.zeros([TILE, BD], tl.float32)
    b_grad_value = tl.zeros([TILE, BD], tl.float32)
    steps = token_tiles
    if LISTED:
        steps = tl.load(p_counts + i_batch * token_tiles + i_tile)
    for step in range(steps):
        i_query_tile = step
        if LISTED:
            i_entry = (i_batch * token_tiles + i_tile) * token_tiles + step
            i_query_tile = tl.load(p_lists + i_entry)
            i_slot = tl.load(p_slots + i_entry).to(tl.int32)
        o_query = i_query_tile * TILE + tl.arange(0, TILE)
        m_query = o_query < tokens
        m_row = m_query[:, None] & m_dim[None, :]
        p_q = p_query + i_batch * q_batch + i_head * q_head + o_query[:, None].to(tl.int64) * q_token + o_dim[None, :]
        b_query = tl.load(p_q, mask=m_row, other=0.0)
        p_g = p_grad + ((row + o_query[:, None]) * heads + i_head) * D + o_dim[None, :]
        b_grad = tl.load(p_g, mask=m_row, other=0.0)
        o_stat = (i_batch * heads + i_head) * tokens + o_query
        b_lse = tl.load(p_lse + o_stat, mask=m_query, other=0.0)
        b_delta = tl.load(p_delta + o_stat, mask=m_query, other=0.0)
        b_x = tl.load(p_place + (row + o_query) * 2, mask=m_query, other=0.0)
        b_y = tl.load(p_place + (row + o_query) * 2 + 1, mask=m_query, other=0.0)
        if LISTED:
            i_packed = (i_batch * token_tiles + i_query_tile) * width + i_slot
            b_packed = tl.load(p_times + i_packed * TILE + tl.arange(0, TILE))
            b_times = times(b_packed, b_shift, MASK, True)
        else:
            b_times = (m_key[:, None] & m_query[None, :]).to(tl.float32)

        b_logit = tl.dot(b_key, tl.trans(b_query), input_precision=PRECISION) * scale
        b_logit += _bias(b_kx[:, None] - b_x[None, :], b_ky[:, None] - b_y[None, :], p_weight, p_bias, i_head)
        b_logit = tl.where(b_times > 0, b_logit, float("-inf"))
        b_weight = tl.exp(b_logit - b_lse[None, :]) * b_times
        b_grad_value += tl.dot(b_weight.to(b_grad.dtype), b_grad, input_precision=PRECISION)
        b_pull = tl.dot(b_value, tl.trans(b_grad), input_precision=PRECISION)
        b_slope = b_weight * (b_pull - b_delta[None, :])
        b_grad_key += tl.dot(b_slope.to(b_query.dtype), b_query, input_precision=PRECISION)

    o_flat = ((row + o_key[:, None]) * heads + i_head) * D + o_dim[None, :]
    tl.store(p_grad_key + o_flat, (b_grad_key * scale).to(p_grad_key.dtype.element_ty), mask=m_own)
    tl.store(p_grad_value + o_flat, b_grad_value.to(p_grad_value.dtype.element_ty), mask=m_own)


def _constants(query: Tensor, clusters: Tensor | None, cluster_size: int, *, forward: bool = False) -> dict[str, Any]:
    dim = query.shape[-1]
    few = dim <= 32 and query.dtype != torch.float32
    return {
        "LISTED": clusters is not None,
        **packing_of(clusters, cluster_size).constants,
        "D": dim,
        "BD": max(LEAST_DOT, power_of_two(dim)),
        "TILE": TILE,
        "PRECISION": precision(query.dtype),
        # The forward pass keeps little, so that one warp holds a tile and nothing has to cross warps.
        "num_warps": (1 if forward else 2) if few else 4,
        "enable_fp_fusion": True,
    }


def _rows(tensor: Tensor) -> Tensor:
    """Return the tensor itself if its last dimension is dense, as the kernels read it."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def forward(
    query: Tensor, key: Tensor, value: Tensor, positions: Tensor, clusters: Tensor | None, cluster_size: int,
    bias_weight: Tensor, bias: Tensor, blank_key: Tensor, blank_value: Tensor, meet: ClusterTiles | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the output ``[B, n, H, d]`` and the log-sum-exp of every query's logits, float32 ``[B, H, n]``."""
    batch, tokens, heads, dim = query.shape
    query, key, value = _rows(query), _rows(key), _rows(value)
    output = torch.empty(batch, tokens, heads, dim, dtype=query.dtype, device=query.device)
    lse = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
    count = tiles(tokens, TILE)
    known = _known(meet, lse)
    launch(
        "cluster_attention", query.device, _attention_forward, (count, heads, batch),
        query, key, value, positions.contiguous(), known.times, bias_weight.contiguous(), bias.contiguous(),
        blank_key.contiguous(), blank_value.contiguous(), output, lse, known.lists, known.counts,
        tokens, heads, count, known.lists.shape[-1], dim**-0.5, *query.stride()[:3], *key.stride()[:3], *value.stride()[:3],
        **_constants(query, clusters, cluster_size, forward=True),
    )  # fmt: skip
    return output, lse


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, positions: Tensor, clusters: Tensor | None, cluster_size: int,
    bias_weight: Tensor, bias: Tensor, blank_key: Tensor, blank_value: Tensor, meet: ClusterTiles | None, output: Tensor,
    lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of query, key and value, and float32 ``[H·(6 + 2d)]``: bias weight, bias, blank key, blank value."""
    batch, tokens, heads, dim = query.shape
    query, key, value, grad, positions = _rows(query), _rows(key), _rows(value), grad.contiguous(), positions.contiguous()
    bias_weight, bias = bias_weight.contiguous(), bias.contiguous()
    count = tiles(tokens, TILE)
    grad_query, grad_key, grad_value = (
        torch.empty(query.shape, dtype=query.dtype, device=query.device) for _ in range(3)
    )  # the shapes are equal, the strides need not be
    delta = torch.empty_like(lse)
    partial = torch.empty(batch * count, heads * (FEATURES + 2 * dim), dtype=torch.float32, device=query.device)
    known = _known(meet, lse)
    strides = (*query.stride()[:3], *key.stride()[:3], *value.stride()[:3])
    sizes = (tokens, heads, count, known.lists.shape[-1], dim**-0.5, *strides)
    constants = _constants(query, clusters, cluster_size)
    launch(
        "cluster_attention (backward)", query.device, _attention_backward_query, (count, heads, batch),
        query, key, value, positions, known.times, bias_weight, bias, blank_key.contiguous(), blank_value.contiguous(),
        output, grad, lse, delta, grad_query, partial, known.lists, known.counts, *sizes, **constants,
    )  # fmt: skip
    launch(
        "cluster_attention (backward)", query.device, _attention_backward_key, (count, heads, batch),
        query, key, value, positions, known.times, bias_weight, bias, grad, lse, delta, grad_key, grad_value,
        known.key_lists, known.key_slots, known.key_counts, *sizes, **constants,
    )  # fmt: skip
    return grad_query, grad_key, grad_value, column_sum(partial)


def _known(meet: ClusterTiles | None, unused: Tensor) -> ClusterTiles:
    """Return which tiles meet; tensors that are never read where every token attends to all."""
    return ClusterTiles(*(unused for _ in ClusterTiles._fields)) if meet is None else meet
