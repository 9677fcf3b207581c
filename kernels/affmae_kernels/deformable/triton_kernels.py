"""Deformable attention: search, interpolation weights and gathering, forward and backward.

A program holds a few queries of one head. The backward pass computes the interpolation weights again. Values receive their
gradient from whatever points fall near them, so it is added up with float32 atomics, whose order is not fixed: the one place
where two runs can differ in the last bits. Under ``torch.use_deterministic_algorithms(True)`` the contributions are sorted by
token and summed in order instead.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import power_of_two, tiles
from .._launch import launch
from ..search.index import SiteIndex
from ..search.triton_kernels import search
from .reference import POINT_NEIGHBOURS, index_dtype

QUERIES = 16
"""Queries per program."""


@triton.jit
def _token(p_near, p_place, o_near, m_query, row, b_x, b_y):
    """Return a neighbour's id, its distance from the point, and the unit vector from it to the point (0 at distance 0)."""
    b_id = tl.load(p_near + o_near, mask=m_query, other=0).to(tl.int32)
    b_dx = b_x - tl.load(p_place + (row + b_id) * 2, mask=m_query, other=0.0)
    b_dy = b_y - tl.load(p_place + (row + b_id) * 2 + 1, mask=m_query, other=0.0)
    b_distance = tl.sqrt(b_dx * b_dx + b_dy * b_dy)
    b_inverse = tl.where(b_distance > 0, 1.0 / tl.where(b_distance > 0, b_distance, 1.0), 0.0)
    return b_id, b_distance, b_dx * b_inverse, b_dy * b_inverse


@triton.jit
def _closeness(p_near, p_place, o_near, m_query, row, b_x, b_y, power, b_first, J: tl.constexpr, N: tl.constexpr):
    """As :func:`_token`, with the weight ``exp(-P (distance - nearest distance))``; 0 if there are fewer than J + 1 tokens."""
    if J < N:
        b_id, b_distance, b_ux, b_uy = _token(p_near, p_place, o_near + J, m_query, row, b_x, b_y)
        b_weight = tl.exp(-power * (b_distance - b_first))
    else:
        b_id, b_distance, b_ux, b_uy = tl.zeros_like(o_near).to(tl.int32), b_first, b_x * 0.0, b_y * 0.0
        b_weight = b_first * 0.0
    return b_id, b_distance, b_ux, b_uy, b_weight


@triton.jit
def _value(p_value, b_id, i_head, v_token, v_head, o_dim, m_value):
    p_rows = p_value + b_id[:, None].to(tl.int64) * v_token + i_head * v_head + o_dim[None, :]
    return tl.load(p_rows, mask=m_value, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["queries", "tokens", "heads"])
def _sample_forward(
    p_value, p_place, p_points, p_mixing, p_power, p_near, p_out, queries, tokens, heads, v_batch, v_token, v_head,
    P: tl.constexpr, N: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, QUERIES: tl.constexpr,
):  # fmt: skip
    i_head, i_batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_query, o_dim = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES), tl.arange(0, BD)
    m_query, m_dim = o_query < queries, o_dim < D
    m_value = m_query[:, None] & m_dim[None, :]
    flat = (i_batch * queries + o_query) * heads + i_head
    row = i_batch * tokens
    power = tl.maximum(tl.load(p_power).to(tl.float32), 1e-6)
    p_image = p_value + i_batch * v_batch
    b_mix = tl.zeros([QUERIES, BD], tl.float32)
    for p in range(P):
        o_point = flat * P + p
        b_x = tl.load(p_points + o_point * 2, mask=m_query, other=0.0)
        b_y = tl.load(p_points + o_point * 2 + 1, mask=m_query, other=0.0)
        b_share = tl.load(p_mixing + o_point, mask=m_query, other=0.0).to(tl.float32)
        o_near = o_point * N
        # The first neighbour is the nearest, so its logit is the largest and no weight exceeds 1.
        i0, d0, _, _ = _token(p_near, p_place, o_near, m_query, row, b_x, b_y)
        i1, _, _, _, w1 = _closeness(p_near, p_place, o_near, m_query, row, b_x, b_y, power, d0, 1, N)
        i2, _, _, _, w2 = _closeness(p_near, p_place, o_near, m_query, row, b_x, b_y, power, d0, 2, N)
        i3, _, _, _, w3 = _closeness(p_near, p_place, o_near, m_query, row, b_x, b_y, power, d0, 3, N)
        b_share /= 1.0 + w1 + w2 + w3
        b_mix += b_share[:, None] * _value(p_image, i0, i_head, v_token, v_head, o_dim, m_value)
        if N > 1:
            b_mix += (b_share * w1)[:, None] * _value(p_image, i1, i_head, v_token, v_head, o_dim, m_value)
        if N > 2:
            b_mix += (b_share * w2)[:, None] * _value(p_image, i2, i_head, v_token, v_head, o_dim, m_value)
        if N > 3:
            b_mix += (b_share * w3)[:, None] * _value(p_image, i3, i_head, v_token, v_head, o_dim, m_value)
    tl.store(p_out + flat[:, None] * D + o_dim[None, :], b_mix.to(p_out.dtype.element_ty), mask=m_value)


@triton.jit
def _give(p_grad_value, p_weights, o_weight, b_id, b_weight, b_grad, m_query, m_value, row, heads, i_head, o_dim,
          J: tl.constexpr, D: tl.constexpr, SORTED: tl.constexpr):  # fmt: skip
    """Hand a token its part of the gradient: at once by atomics, or as a weight that is collected later in order."""
    if SORTED:
        tl.store(p_weights + o_weight + J, b_weight, mask=m_query)
    else:
        o_row = ((row + b_id[:, None]) * heads + i_head) * D + o_dim[None, :]
        tl.atomic_add(p_grad_value + o_row, b_weight[:, None] * b_grad, mask=m_value, sem="relaxed")


@triton.jit(do_not_specialize=["queries", "tokens", "heads"])
def _sample_backward(
    p_value, p_place, p_points, p_mixing, p_power, p_near, p_grad, p_grad_value, p_weights, p_grad_points, p_grad_mixing,
    p_grad_power, queries, tokens, heads, v_batch, v_token, v_head,
    P: tl.constexpr, N: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, QUERIES: tl.constexpr, SORTED: tl.constexpr,
):  # fmt: skip
    i_tile, i_head, i_batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_query, o_dim = i_tile * QUERIES + tl.arange(0, QUERIES), tl.arange(0, BD)
    m_query, m_dim = o_query < queries, o_dim < D
    m_value = m_query[:, None] & m_dim[None, :]
    flat = (i_batch * queries + o_query) * heads + i_head
    row = i_batch * tokens
    power = tl.maximum(tl.load(p_power).to(tl.float32), 1e-6)
    p_image = p_value + i_batch * v_batch
    b_grad = tl.load(p_grad + flat[:, None] * D + o_dim[None, :], mask=m_value, other=0.0).to(tl.float32)
    b_grad_power = tl.zeros([QUERIES], tl.float32)
    for p in range(P):
        o_point = flat * P + p
        b_x = tl.load(p_points + o_point * 2, mask=m_query, other=0.0)
        b_y = tl.load(p_points + o_point * 2 + 1, mask=m_query, other=0.0)
        b_share = tl.load(p_mixing + o_point, mask=m_query, other=0.0).to(tl.float32)
        o_near = o_point * N
        i0, d0, x0, y0 = _token(p_near, p_place, o_near, m_query, row, b_x, b_y)
        i1, d1, x1, y1, w1 = _closeness(p_near, p_place, o_near, m_query, row, b_x, b_y, power, d0, 1, N)
        i2, d2, x2, y2, w2 = _closeness(p_near, p_place, o_near, m_query, row, b_x, b_y, power, d0, 2, N)
        i3, d3, x3, y3, w3 = _closeness(p_near, p_place, o_near, m_query, row, b_x, b_y, power, d0, 3, N)
        b_whole = 1.0 / (1.0 + w1 + w2 + w3)
        w0, w1, w2, w3 = b_whole, w1 * b_whole, w2 * b_whole, w3 * b_whole

        # t_j = grad · v_j: what the output would gain from more of token j.
        t0 = tl.sum(b_grad * _value(p_image, i0, i_head, v_token, v_head, o_dim, m_value), axis=1)
        _give(p_grad_value, p_weights, o_near, i0, b_share * w0, b_grad, m_query, m_value, row, heads, i_head, o_dim,
              0, D, SORTED)  # fmt: skip
        t1, t2, t3 = t0 * 0.0, t0 * 0.0, t0 * 0.0
        if N > 1:
            t1 = tl.sum(b_grad * _value(p_image, i1, i_head, v_token, v_head, o_dim, m_value), axis=1)
            _give(p_grad_value, p_weights, o_near, i1, b_share * w1, b_grad, m_query, m_value, row, heads, i_head, o_dim,
                  1, D, SORTED)  # fmt: skip
        if N > 2:
            t2 = tl.sum(b_grad * _value(p_image, i2, i_head, v_token, v_head, o_dim, m_value), axis=1)
            _give(p_grad_value, p_weights, o_near, i2, b_share * w2, b_grad, m_query, m_value, row, heads, i_head, o_dim,
                  2, D, SORTED)  # fmt: skip
        if N > 3:
            t3 = tl.sum(b_grad * _value(p_image, i3, i_head, v_token, v_head, o_dim, m_value), axis=1)
            _give(p_grad_value, p_weights, o_near, i3, b_share * w3, b_grad, m_query, m_value, row, heads, i_head, o_dim,
                  3, D, SORTED)  # fmt: skip
        b_mean = w0 * t0 + w1 * t1 + w2 * t2 + w3 * t3
        # Slopes of the four logits -P·distance; they sum to 0.
        l0, l1, l2, l3 = (t0 - b_mean) * w0, (t1 - b_mean) * w1, (t2 - b_mean) * w2, (t3 - b_mean) * w3
        b_pull = -power * b_share
        tl.store(p_grad_mixing + o_point, b_mean, mask=m_query)
        tl.store(p_grad_points + o_point * 2, b_pull * (l0 * x0 + l1 * x1 + l2 * x2 + l3 * x3), mask=m_query)
        tl.store(p_grad_points + o_point * 2 + 1, b_pull * (l0 * y0 + l1 * y1 + l2 * y2 + l3 * y3), mask=m_query)
        # Because they do, distances may be counted from the nearest one, which keeps the bits that matter.
        b_grad_power -= b_share * (l1 * (d1 - d0) + l2 * (d2 - d0) + l3 * (d3 - d0))
    programs = tl.num_programs(0)
    tl.store(p_grad_power + (i_batch * heads + i_head) * programs + i_tile, tl.sum(b_grad_power, axis=0))


@triton.jit
def _sample_collect(p_order, p_starts, p_weights, p_grad, p_grad_value, per_row, D: tl.constexpr, BD: tl.constexpr):
    """Sum what the points gave to one token and head, in the order of the points."""
    i_row = tl.program_id(0).to(tl.int64)
    o_dim = tl.arange(0, BD)
    m_dim = o_dim < D
    b_sum = tl.zeros([BD], tl.float32)
    for i in range(tl.load(p_starts + i_row), tl.load(p_starts + i_row + 1)):
        entry = tl.load(p_order + i)
        b_grad = tl.load(p_grad + (entry // per_row) * D + o_dim, mask=m_dim, other=0.0).to(tl.float32)
        b_sum += tl.load(p_weights + entry) * b_grad
    tl.store(p_grad_value + i_row * D + o_dim, b_sum.to(p_grad_value.dtype.element_ty), mask=m_dim)


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def forward(
    value: Tensor, positions: Tensor, points: Tensor, mixing: Tensor, power: Tensor, grid: tuple[int, int] | None,
    index: SiteIndex | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the output ``[B, q, H, d]`` and the ids of each point's nearest tokens, ``[B, q, H, P, 4]``."""
    batch, tokens, heads, dim = value.shape
    queries, samples = points.shape[1], points.shape[3]
    near = min(POINT_NEIGHBOURS, tokens)
    value, points, mixing, positions = _rows(value), points.contiguous(), mixing.contiguous(), positions.contiguous()
    found = search(points.flatten(1, 3), positions, near, grid, index_dtype(tokens), index).view(*mixing.shape, near)
    output = torch.empty(batch, queries, heads, dim, dtype=value.dtype, device=value.device)
    if queries:
        launch(
            "deformable_attention", value.device, _sample_forward, (tiles(queries, QUERIES), heads, batch),
            value, positions, points, mixing, power, found, output, queries, tokens, heads, *value.stride()[:3],
            P=samples, N=near, D=dim, BD=power_of_two(dim), QUERIES=QUERIES, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return output, found


def backward(
    grad: Tensor, value: Tensor, positions: Tensor, points: Tensor, mixing: Tensor, power: Tensor, found: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of value, points, mixing weights and power, the last three float32."""
    batch, tokens, heads, dim = value.shape
    queries, samples, near = points.shape[1], points.shape[3], found.shape[-1]
    value, grad, points, mixing = _rows(value), grad.contiguous(), points.contiguous(), mixing.contiguous()
    in_order = torch.are_deterministic_algorithms_enabled()
    grad_points, grad_mixing = torch.empty_like(points), torch.empty(mixing.shape, dtype=torch.float32, device=value.device)
    count = tiles(queries, QUERIES)
    grad_power = torch.empty(batch * heads * count, dtype=torch.float32, device=value.device)
    if in_order:
        weights = torch.empty(found.shape, dtype=torch.float32, device=value.device)
        grad_value = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    else:
        weights = grad_power  # never written
        grad_value = torch.zeros(value.shape, dtype=torch.float32, device=value.device)
    if queries:
        launch(
            "deformable_attention (backward)", value.device, _sample_backward, (count, heads, batch),
            value, positions.contiguous(), points, mixing, power, found, grad, grad_value, weights, grad_points,
            grad_mixing, grad_power, queries, tokens, heads, *value.stride()[:3],
            P=samples, N=near, D=dim, BD=power_of_two(dim), QUERIES=QUERIES, SORTED=in_order, num_warps=4,
            enable_fp_fusion=True,
        )  # fmt: skip
    if in_order:
        image = torch.arange(batch, dtype=torch.int32, device=value.device).view(batch, 1, 1, 1, 1)
        head = torch.arange(heads, dtype=torch.int32, device=value.device).view(1, 1, heads, 1, 1)
        receiver, order = torch.sort(((image * tokens + found) * heads + head).flatten(), stable=True)
        rows = torch.arange(batch * tokens * heads + 1, dtype=torch.int32, device=value.device)
        starts = torch.searchsorted(receiver, rows)
        launch(
            "deformable_attention (backward)", value.device, _sample_collect, (batch * tokens * heads,),
            order, starts, weights, grad, grad_value, samples * near, D=dim, BD=power_of_two(dim),
            num_warps=1, enable_fp_fusion=True,
        )  # fmt: skip
    grad_power = torch.where(power > 1e-6, grad_power.sum(), 0.0)
    return grad_value.to(value.dtype), grad_points, grad_mixing, grad_power
