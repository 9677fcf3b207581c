"""Hiding, LayerNorm and GELU: one pass over the rows forward, one backward, which normalises again.

As in ``norm``, a program of the backward pass keeps its part of the column sums on the chip: no atomics.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import power_of_two, tiles
from .._launch import launch
from ..sums.triton_kernels import column_sum

ELEMENTS = 4096
"""Elements of a tile of rows."""

PROGRAMS = 264
"""Most programs of the backward pass: a few per multiprocessor, and so few that adding up their parts is cheap."""


@triton.jit
def _unit(p_rows, p_visible, o_row, m_row, o_place, m_own, eps, D: tl.constexpr, HIDES: tl.constexpr):
    """Return rows of mean 0 and deviation 1, the inverse deviation, and which rows are visible (1 or 0)."""
    b_x = tl.load(p_rows + o_place, mask=m_own, other=0.0).to(tl.float32)
    b_visible = tl.full([1], 1.0, tl.float32)
    if HIDES:
        b_visible = tl.load(p_visible + o_row, mask=m_row, other=0).to(tl.float32)
        b_x *= b_visible[:, None]
    b_centred = tl.where(m_own, b_x - (tl.sum(b_x, axis=1) / D)[:, None], 0.0)
    b_inverse = 1.0 / tl.sqrt(tl.sum(b_centred * b_centred, axis=1) / D + eps)
    return b_centred * b_inverse[:, None], b_inverse, b_visible


@triton.jit(do_not_specialize=["rows"])
def _masked_norm_forward(
    p_rows, p_visible, p_weight, p_bias, p_out, rows, eps,
    D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr, HIDES: tl.constexpr,
):  # fmt: skip
    o_row, o_dim = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BD)
    m_row, m_dim = o_row < rows, o_dim < D
    m_own = m_row[:, None] & m_dim[None, :]
    o_place = o_row[:, None].to(tl.int64) * D + o_dim[None, :]
    b_weight = tl.load(p_weight + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_bias = tl.load(p_bias + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_unit, _, _ = _unit(p_rows, p_visible, o_row, m_row, o_place, m_own, eps, D, HIDES)
    b_normed = b_unit * b_weight[None, :] + b_bias[None, :]
    b_out = 0.5 * b_normed * (1.0 + tl.erf(b_normed * 0.7071067811865476))
    tl.store(p_out + o_place, b_out.to(p_out.dtype.element_ty), mask=m_own)


@triton.jit(do_not_specialize=["rows"])
def _masked_norm_backward(
    p_rows, p_visible, p_weight, p_bias, p_grad, p_grad_rows, p_partial, rows, eps,
    D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr, HIDES: tl.constexpr,
):  # fmt: skip
    i_program, o_dim = tl.program_id(0), tl.arange(0, BD)
    m_dim = o_dim < D
    b_weight = tl.load(p_weight + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_bias = tl.load(p_bias + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_grad_weight = tl.zeros([ROWS, BD], tl.float32)
    b_grad_bias = tl.zeros([ROWS, BD], tl.float32)
    for start in range(i_program * ROWS, rows, tl.num_programs(0) * ROWS):
        o_row = start + tl.arange(0, ROWS)
        m_row = o_row < rows
        m_own = m_row[:, None] & m_dim[None, :]
        o_place = o_row[:, None].to(tl.int64) * D + o_dim[None, :]
        b_unit, b_inverse, b_visible = _unit(p_rows, p_visible, o_row, m_row, o_place, m_own, eps, D, HIDES)
        b_normed = b_unit * b_weight[None, :] + b_bias[None, :]
        b_slope = 0.5 * (1.0 + tl.erf(b_normed * 0.7071067811865476))
        b_slope += b_normed * tl.exp(-0.5 * b_normed * b_normed) * 0.3989422804014327
        b_grad = tl.load(p_grad + o_place, mask=m_own, other=0.0).to(tl.float32) * b_slope
        b_grad_weight += b_grad * b_unit
        b_grad_bias += b_grad
        b_grad *= b_weight[None, :]
        b_along = tl.sum(b_grad * b_unit, axis=1) / D
        b_grad = b_grad - tl.sum(b_grad, axis=1)[:, None] / D - b_unit * b_along[:, None]
        b_grad *= (b_inverse * b_visible)[:, None]
        tl.store(p_grad_rows + o_place, b_grad.to(p_grad_rows.dtype.element_ty), mask=m_own)
    p_mine = p_partial + i_program * 2 * D + o_dim
    tl.store(p_mine, tl.sum(b_grad_weight, axis=0), mask=m_dim)
    tl.store(p_mine + D, tl.sum(b_grad_bias, axis=0), mask=m_dim)


def _constants(dim: int, visible: Tensor | None) -> dict[str, Any]:
    wide = power_of_two(dim)
    rows = max(1, ELEMENTS // wide)
    return {"D": dim, "BD": wide, "ROWS": rows, "HIDES": visible is not None, "num_warps": 8, "enable_fp_fusion": True}


def forward(rows: Tensor, visible: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """Return the result ``[N, D]``."""
    rows = rows.contiguous()
    count, dim = rows.shape
    result = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    constants = _constants(dim, visible)
    if count:
        launch(
            "masked_norm_gelu",
            rows.device,
            _masked_norm_forward,
            (tiles(count, constants["ROWS"]),),
            rows,
            rows if visible is None else visible.contiguous(),
            weight.contiguous(),
            bias.contiguous(),
            result,
            count,
            eps,
            **constants,
        )
    return result


def backward(
    grad: Tensor, rows: Tensor, visible: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the rows, and float32 ``[2, D]``: weight and bias."""
    rows = rows.contiguous()
    count, dim = rows.shape
    grad_rows = torch.empty_like(rows)
    constants = _constants(dim, visible)
    programs = min(PROGRAMS, tiles(count, constants["ROWS"]))
    partial = torch.empty(programs, 2, dim, dtype=torch.float32, device=rows.device)
    if count:
        launch(
            "masked_norm_gelu (backward)", rows.device, _masked_norm_backward, (programs,),
            rows, rows if visible is None else visible.contiguous(), weight.contiguous(), bias.contiguous(), grad.contiguous(),
            grad_rows, partial, count, eps, **constants,
        )  # fmt: skip
    return grad_rows, column_sum(partial.flatten(1)).view(2, dim)
