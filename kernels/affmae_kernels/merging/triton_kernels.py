"""Token merge on the matrix units: each of the 4 kinds of weights is one product of a tile of survivors with its neighbours.

The weights are computed where they are used, forward and backward; neither they nor gathered tokens are ever written to memory.
What the kinds share (offsets, features, the norm's deviation) is computed once for all 4. The backward pass is derived in
``kernels/README.md``.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import LEAST_DOT, SURVIVORS, TILE, power_of_two, precision, tiles
from .._launch import launch
from .._offsets import offset_features
from ..sums.triton_kernels import column_sum
from ..tiles.packing import ClusterTiles, Packing, packing_of
from ..tiles.triton_kernels import meetings, shifts, times

KINDS = 4
"""Weights per neighbour; the kernels are written for this number."""

WIDEST = 64
"""Channels that one program sums."""


@triton.jit
def _linear(p_row, dx, dy, r, sine, cosine):
    """Apply one row ``[6]`` of the centred map: five features and the constant."""
    total = tl.load(p_row) * dx + tl.load(p_row + 1) * dy + tl.load(p_row + 2) * r
    return total + tl.load(p_row + 3) * sine + tl.load(p_row + 4) * cosine + tl.load(p_row + 5)


@triton.jit
def _units(p_centred, dx, dy, r, sine, cosine, eps):
    """Return LayerNorm over the kinds before scale and shift, one block per kind, and the inverse deviation.

    The map is centred over kinds beforehand, which is the mean's part of LayerNorm.
    """
    h0 = _linear(p_centred, dx, dy, r, sine, cosine)
    h1 = _linear(p_centred + 6, dx, dy, r, sine, cosine)
    h2 = _linear(p_centred + 12, dx, dy, r, sine, cosine)
    h3 = _linear(p_centred + 18, dx, dy, r, sine, cosine)
    inverse = tl.rsqrt((h0 * h0 + h1 * h1 + h2 * h2 + h3 * h3) * 0.25 + eps)
    return h0 * inverse, h1 * inverse, h2 * inverse, h3 * inverse, inverse


@triton.jit
def _weights(p_norm_weight, p_norm_bias, unit, KIND: tl.constexpr):
    """Return the weights of one kind, before scores and counts."""
    scale, shift = tl.load(p_norm_weight + KIND).to(tl.float32), tl.load(p_norm_bias + KIND).to(tl.float32)
    return _gelu(unit * scale + shift)


@triton.jit
def _gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _gelu_slope(x):
    return 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * tl.exp(-0.5 * x * x) * 0.3989422804014327


@triton.jit(do_not_specialize=["tokens", "survivors", "survivor_tiles", "token_tiles", "width"])
def _merge_forward(
    p_tokens, p_scores, p_place, p_own, p_times, p_centred, p_norm_weight, p_norm_bias, p_out, p_lists, p_counts,
    tokens, survivors, survivor_tiles, token_tiles, width, eps,
    LISTED: tl.constexpr, CLUSTER: tl.constexpr, BITS: tl.constexpr, MASK: tl.constexpr, TOP: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, SURVIVORS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    i_tile, i_batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    o_own, o_dim = tl.arange(0, SURVIVORS), tl.program_id(1) * BD + tl.arange(0, BD)
    o_survivor = i_tile * SURVIVORS + o_own
    m_survivor, m_dim = o_survivor < survivors, o_dim < D
    row = i_batch * survivors
    b_x = tl.load(p_own + (row + o_survivor) * 2, mask=m_survivor, other=0.0)
    b_y = tl.load(p_own + (row + o_survivor) * 2 + 1, mask=m_survivor, other=0.0)
    b_sum0 = tl.zeros([SURVIVORS, BD], tl.float32)
    b_sum1 = tl.zeros([SURVIVORS, BD], tl.float32)
    b_sum2 = tl.zeros([SURVIVORS, BD], tl.float32)
    b_sum3 = tl.zeros([SURVIVORS, BD], tl.float32)
    steps = token_tiles
    if LISTED:
        steps = tl.load(p_counts + i_batch * survivor_tiles + i_tile)
    for step in range(steps):
        i_key_tile = step
        if LISTED:
            i_entry = (i_batch * survivor_tiles + i_tile) * width + step
            i_key_tile = tl.load(p_lists + i_entry)
        o_key = i_key_tile * TILE + tl.arange(0, TILE)
        m_key = o_key < tokens
        flat = i_batch * tokens + o_key
        b_kx = tl.load(p_place + flat * 2, mask=m_key, other=0.0)
        b_ky = tl.load(p_place + flat * 2 + 1, mask=m_key, other=0.0)
        b_token = tl.load(p_tokens + flat[:, None] * D + o_dim[None, :], mask=m_key[:, None] & m_dim[None, :], other=0.0)
        b_share = tl.load(p_scores + flat, mask=m_key, other=0.0).to(tl.float32)[None, :]
        if LISTED:
            b_packed = tl.load(p_times + i_entry * SURVIVORS + o_own)
            b_share *= times(b_packed, shifts(i_key_tile * TILE, m_key, CLUSTER, TILE, BITS, TOP), MASK, False)
        dx, dy, r, sine, cosine = offset_features(b_kx[None, :] - b_x[:, None], b_ky[None, :] - b_y[:, None])
        u0, u1, u2, u3, _ = _units(p_centred, dx, dy, r, sine, cosine, eps)
        b_w = (_weights(p_norm_weight, p_norm_bias, u0, 0) * b_share).to(b_token.dtype)
        b_sum0 += tl.dot(b_w, b_token, input_precision=PRECISION)
        b_w = (_weights(p_norm_weight, p_norm_bias, u1, 1) * b_share).to(b_token.dtype)
        b_sum1 += tl.dot(b_w, b_token, input_precision=PRECISION)
        b_w = (_weights(p_norm_weight, p_norm_bias, u2, 2) * b_share).to(b_token.dtype)
        b_sum2 += tl.dot(b_w, b_token, input_precision=PRECISION)
        b_w = (_weights(p_norm_weight, p_norm_bias, u3, 3) * b_share).to(b_token.dtype)
        b_sum3 += tl.dot(b_w, b_token, input_precision=PRECISION)
    p_o = p_out + (row + o_survivor[:, None]) * 4 * D + o_dim[None, :]
    m_own = m_survivor[:, None] & m_dim[None, :]
    tl.store(p_o, b_sum0.to(p_out.dtype.element_ty), mask=m_own)
    tl.store(p_o + D, b_sum1.to(p_out.dtype.element_ty), mask=m_own)
    tl.store(p_o + 2 * D, b_sum2.to(p_out.dtype.element_ty), mask=m_own)
    tl.store(p_o + 3 * D, b_sum3.to(p_out.dtype.element_ty), mask=m_own)


@triton.jit(do_not_specialize=["tokens", "survivors", "survivor_tiles", "token_tiles", "width"])
def _merge_backward_token(
    p_tokens, p_scores, p_place, p_own, p_times, p_centred, p_norm_weight, p_norm_bias, p_grad, p_grad_tokens, p_grad_scores,
    p_lists, p_slots, p_counts, tokens, survivors, survivor_tiles, token_tiles, width, eps,
    LISTED: tl.constexpr, CLUSTER: tl.constexpr, BITS: tl.constexpr, MASK: tl.constexpr, TOP: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, SURVIVORS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of tokens and scores: ``u_j = sum_ic g_ijc grad_ic`` gives ``s_j u_j`` and ``x_j · u_j``."""
    i_tile, i_part, i_batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_key, o_dim = i_tile * TILE + tl.arange(0, TILE), i_part * BD + tl.arange(0, BD)
    m_key, m_dim = o_key < tokens, o_dim < D
    flat = i_batch * tokens + o_key
    row = i_batch * survivors
    b_kx = tl.load(p_place + flat * 2, mask=m_key, other=0.0)
    b_ky = tl.load(p_place + flat * 2 + 1, mask=m_key, other=0.0)
    b_place = shifts(i_tile * TILE, m_key, CLUSTER, TILE, BITS, TOP)
    o_own = tl.arange(0, SURVIVORS)
    b_sum = tl.zeros([TILE, BD], tl.float32)
    steps = survivor_tiles
    if LISTED:
        steps = tl.load(p_counts + i_batch * token_tiles + i_tile)
    for step in range(steps):
        i_survivor_tile = step
        if LISTED:
            i_entry = (i_batch * token_tiles + i_tile) * survivor_tiles + step
            i_survivor_tile = tl.load(p_lists + i_entry)
            i_slot = tl.load(p_slots + i_entry).to(tl.int32)
        o_survivor = i_survivor_tile * SURVIVORS + o_own
        m_survivor = o_survivor < survivors
        b_x = tl.load(p_own + (row + o_survivor) * 2, mask=m_survivor, other=0.0)
        b_y = tl.load(p_own + (row + o_survivor) * 2 + 1, mask=m_survivor, other=0.0)
        if LISTED:
            i_packed = (i_batch * survivor_tiles + i_survivor_tile) * width + i_slot
            b_count = times(tl.load(p_times + i_packed * SURVIVORS + o_own), b_place, MASK, True)
        else:
            b_count = (m_key[:, None] & m_survivor[None, :]).to(tl.float32)
        dx, dy, r, sine, cosine = offset_features(b_kx[:, None] - b_x[None, :], b_ky[:, None] - b_y[None, :])
        u0, u1, u2, u3, _ = _units(p_centred, dx, dy, r, sine, cosine, eps)
        p_g = p_grad + (row + o_survivor[:, None]) * 4 * D + o_dim[None, :]
        m_grad = m_survivor[:, None] & m_dim[None, :]
        b_grad = tl.load(p_g, mask=m_grad, other=0.0)
        b_w = (_weights(p_norm_weight, p_norm_bias, u0, 0) * b_count).to(b_grad.dtype)
        b_sum += tl.dot(b_w, b_grad, input_precision=PRECISION)
        b_grad = tl.load(p_g + D, mask=m_grad, other=0.0)
        b_w = (_weights(p_norm_weight, p_norm_bias, u1, 1) * b_count).to(b_grad.dtype)
        b_sum += tl.dot(b_w, b_grad, input_precision=PRECISION)
        b_grad = tl.load(p_g + 2 * D, mask=m_grad, other=0.0)
        b_w = (_weights(p_norm_weight, p_norm_bias, u2, 2) * b_count).to(b_grad.dtype)
        b_sum += tl.dot(b_w, b_grad, input_precision=PRECISION)
        b_grad = tl.load(p_g + 3 * D, mask=m_grad, other=0.0)
        b_w = (_weights(p_norm_weight, p_norm_bias, u3, 3) * b_count).to(b_grad.dtype)
        b_sum += tl.dot(b_w, b_grad, input_precision=PRECISION)
    m_own = m_key[:, None] & m_dim[None, :]
    b_score = tl.load(p_scores + flat, mask=m_key, other=0.0).to(tl.float32)
    b_token = tl.load(p_tokens + flat[:, None] * D + o_dim[None, :], mask=m_own, other=0.0).to(tl.float32)
    b_grad_token = b_sum * b_score[:, None]
    tl.store(p_grad_tokens + flat[:, None] * D + o_dim[None, :], b_grad_token.to(p_grad_tokens.dtype.element_ty), mask=m_own)
    o_score = i_part * tl.num_programs(2).to(tl.int64) * tokens + flat
    tl.store(p_grad_scores + o_score, tl.sum(b_sum * b_token, axis=1), mask=m_key)


@triton.jit
def _mean_over_kinds(b_values, ROWS: tl.constexpr, TILE: tl.constexpr):
    """Average the 4 rows of each survivor and give every row its survivor's average, ``[ROWS, TILE]``."""
    b_split = tl.reshape(b_values, (ROWS // 4, 4, TILE))
    b_mean = tl.sum(b_split, axis=1) * 0.25
    return tl.reshape(tl.broadcast_to(b_mean[:, None, :], (ROWS // 4, 4, TILE)), (ROWS, TILE))


@triton.jit(do_not_specialize=["tokens", "survivors", "survivor_tiles", "token_tiles", "width"])
def _merge_backward_weight(
    p_tokens, p_scores, p_place, p_own, p_times, p_centred, p_norm_weight, p_norm_bias, p_grad, p_partial,
    p_lists, p_counts, tokens, survivors, survivor_tiles, token_tiles, width, eps,
    LISTED: tl.constexpr, CLUSTER: tl.constexpr, BITS: tl.constexpr, MASK: tl.constexpr, TOP: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, SURVIVORS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Per row (survivor and kind): gradients of the 5 weights, the bias, and the norm's scale and shift, ``[B, s·4, 8]``."""
    i_tile, i_batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    ROWS: tl.constexpr = 4 * SURVIVORS  # row 4 i + c is weight c of survivor i
    o_row = tl.arange(0, ROWS)
    b_kind, o_survivor = o_row % 4, i_tile * SURVIVORS + o_row // 4
    m_survivor = o_survivor < survivors
    row = i_batch * survivors
    b_x = tl.load(p_own + (row + o_survivor) * 2, mask=m_survivor, other=0.0)
    b_y = tl.load(p_own + (row + o_survivor) * 2 + 1, mask=m_survivor, other=0.0)
    b_scale, b_shift = tl.load(p_norm_weight + b_kind).to(tl.float32), tl.load(p_norm_bias + b_kind).to(tl.float32)
    b_dx = tl.zeros([ROWS], tl.float32)
    b_dy = tl.zeros([ROWS], tl.float32)
    b_r = tl.zeros([ROWS], tl.float32)
    b_sine = tl.zeros([ROWS], tl.float32)
    b_cosine = tl.zeros([ROWS], tl.float32)
    b_one = tl.zeros([ROWS], tl.float32)
    b_grad_scale = tl.zeros([ROWS], tl.float32)
    b_grad_shift = tl.zeros([ROWS], tl.float32)
    steps = token_tiles
    if LISTED:
        steps = tl.load(p_counts + i_batch * survivor_tiles + i_tile)
    for step in range(steps):
        i_key_tile = step
        if LISTED:
            i_entry = (i_batch * survivor_tiles + i_tile) * width + step
            i_key_tile = tl.load(p_lists + i_entry)
        o_key = i_key_tile * TILE + tl.arange(0, TILE)
        m_key = o_key < tokens
        flat = i_batch * tokens + o_key
        b_pull = tl.zeros([ROWS, TILE], tl.float32)
        for start in range(0, D, BD):
            o_dim = start + tl.arange(0, BD)
            m_dim = o_dim < D
            b_token = tl.load(p_tokens + flat[:, None] * D + o_dim[None, :], mask=m_key[:, None] & m_dim[None, :], other=0.0)
            p_g = p_grad + (row * 4 + i_tile * ROWS + o_row[:, None]) * D + o_dim[None, :]
            b_grad = tl.load(p_g, mask=m_survivor[:, None] & m_dim[None, :], other=0.0)
            b_pull += tl.dot(b_grad, tl.trans(b_token), input_precision=PRECISION)
        b_kx = tl.load(p_place + flat * 2, mask=m_key, other=0.0)
        b_ky = tl.load(p_place + flat * 2 + 1, mask=m_key, other=0.0)
        b_pull *= tl.load(p_scores + flat, mask=m_key, other=0.0).to(tl.float32)[None, :]
        if LISTED:
            b_packed = tl.load(p_times + i_entry * SURVIVORS + o_row // 4)
            b_pull *= times(b_packed, shifts(i_key_tile * TILE, m_key, CLUSTER, TILE, BITS, TOP), MASK, False)
        dx, dy, r, sine, cosine = offset_features(b_kx[None, :] - b_x[:, None], b_ky[None, :] - b_y[:, None])
        u0, u1, u2, u3, b_inverse = _units(p_centred, dx, dy, r, sine, cosine, eps)
        b_own = b_kind[:, None]
        b_unit = tl.where(b_own == 0, u0, tl.where(b_own == 1, u1, tl.where(b_own == 2, u2, u3)))
        b_slope = b_pull * _gelu_slope(b_unit * b_scale[:, None] + b_shift[:, None])
        b_grad_scale += tl.sum(b_slope * b_unit, axis=1)
        b_grad_shift += tl.sum(b_slope, axis=1)
        b_slope *= b_scale[:, None]
        b_slope = b_slope - _mean_over_kinds(b_slope, ROWS, TILE) - b_unit * _mean_over_kinds(b_slope * b_unit, ROWS, TILE)
        b_slope *= b_inverse
        b_dx += tl.sum(b_slope * dx, axis=1)
        b_dy += tl.sum(b_slope * dy, axis=1)
        b_r += tl.sum(b_slope * r, axis=1)
        b_sine += tl.sum(b_slope * sine, axis=1)
        b_cosine += tl.sum(b_slope * cosine, axis=1)
        b_one += tl.sum(b_slope, axis=1)
    p_mine = p_partial + (row * 4 + i_tile * ROWS + o_row) * 8
    tl.store(p_mine, b_dx, mask=m_survivor)
    tl.store(p_mine + 1, b_dy, mask=m_survivor)
    tl.store(p_mine + 2, b_r, mask=m_survivor)
    tl.store(p_mine + 3, b_sine, mask=m_survivor)
    tl.store(p_mine + 4, b_cosine, mask=m_survivor)
    tl.store(p_mine + 5, b_one, mask=m_survivor)
    tl.store(p_mine + 6, b_grad_scale, mask=m_survivor)
    tl.store(p_mine + 7, b_grad_shift, mask=m_survivor)


def _centred(weight: Tensor, bias: Tensor) -> Tensor:
    """Return weights and bias side by side, less their mean over kinds, float32 ``[4, 6]``."""
    table = torch.cat((weight.float(), bias.float().unsqueeze(1)), dim=1)
    return table - table.mean(0)


def _surroundings(
    positions: Tensor, survivors: Tensor, clusters: Tensor | None, packed: Packing
) -> tuple[Tensor, ClusterTiles]:
    """Return the survivors' positions ``[B, s, 2]`` and which tiles meet (tensors that nobody reads if all do)."""
    own = positions.gather(1, survivors.unsqueeze(-1).expand(-1, -1, 2))
    if clusters is None:
        return own, ClusterTiles(*(survivors for _ in ClusterTiles._fields))
    near = clusters.gather(1, survivors.unsqueeze(-1).expand(-1, -1, clusters.shape[-1]))
    return own, meetings(near, packed, positions.shape[1], SURVIVORS, TILE)


def _constants(tokens: Tensor, clusters: Tensor | None, packed: Packing) -> dict[str, Any]:
    dim = tokens.shape[-1]
    return {
        "LISTED": clusters is not None,
        **packed.constants,
        "D": dim,
        "BD": min(WIDEST, max(LEAST_DOT, power_of_two(dim))),
        "SURVIVORS": SURVIVORS,
        "TILE": TILE,
        "PRECISION": precision(tokens.dtype),
        "num_warps": 4,
        "enable_fp_fusion": True,
    }


def forward(
    tokens: Tensor, scores: Tensor, positions: Tensor, survivors: Tensor, clusters: Tensor | None, cluster_size: int,
    weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float,
) -> Tensor:  # fmt: skip
    """Return the merged tokens ``[B, s, 4·D]``."""
    batch, count, dim = tokens.shape
    kept = survivors.shape[1]
    packed = packing_of(clusters, cluster_size)
    own, known = _surroundings(positions, survivors, clusters, packed)
    constants = _constants(tokens, clusters, packed)
    output = torch.empty(batch, kept, KINDS * dim, dtype=tokens.dtype, device=tokens.device)
    launch(
        "token_merge", tokens.device, _merge_forward, (tiles(kept, SURVIVORS), tiles(dim, constants["BD"]), batch),
        tokens.contiguous(), scores.contiguous(), positions.contiguous(), own, known.times, _centred(weight, bias),
        norm_weight.contiguous(), norm_bias.contiguous(), output, known.lists, known.counts,
        count, kept, tiles(kept, SURVIVORS), tiles(count, TILE), known.lists.shape[-1], eps, **constants,
    )  # fmt: skip
    return output


def backward(
    grad: Tensor, tokens: Tensor, scores: Tensor, positions: Tensor, survivors: Tensor, clusters: Tensor | None,
    cluster_size: int, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of tokens and scores, and float32 ``[4, 8]``: weight, bias, norm weight, norm bias."""
    batch, count, dim = tokens.shape
    kept = survivors.shape[1]
    packed = packing_of(clusters, cluster_size)
    own, known = _surroundings(positions, survivors, clusters, packed)
    constants = _constants(tokens, clusters, packed)
    parts = tiles(dim, constants["BD"])
    given = (
        tokens.contiguous(), scores.contiguous(), positions.contiguous(), own, known.times, _centred(weight, bias),
        norm_weight.contiguous(), norm_bias.contiguous(), grad.contiguous(),
    )  # fmt: skip
    sizes = (count, kept, tiles(kept, SURVIVORS), tiles(count, TILE), known.lists.shape[-1], eps)
    grad_tokens = torch.empty(tokens.shape, dtype=tokens.dtype, device=tokens.device)
    grad_scores = torch.empty(parts, batch, count, dtype=torch.float32, device=tokens.device)
    partial = torch.empty(batch * kept, KINDS, 8, dtype=torch.float32, device=tokens.device)
    launch(
        "token_merge (backward)", tokens.device, _merge_backward_token, (tiles(count, TILE), parts, batch),
        *given, grad_tokens, grad_scores, known.key_lists, known.key_slots, known.key_counts, *sizes, **constants,
    )  # fmt: skip
    launch(
        "token_merge (backward)", tokens.device, _merge_backward_weight, (tiles(kept, SURVIVORS), batch),
        *given, partial, known.lists, known.counts, *sizes, **constants,
    )  # fmt: skip
    return grad_tokens, grad_scores.sum(0).to(scores.dtype), column_sum(partial.flatten(1)).view(KINDS, 8)
