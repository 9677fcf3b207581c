"""Residual sum, dropout and LayerNorm: one pass over the rows forward, one backward.

A program of the backward pass walks over tiles of rows in a fixed stride and keeps its part of the three column sums (weight,
bias, branch bias) on the chip; the parts are added afterwards in one order, so no atomics are needed. Which elements are
dropped is a hash of their place and of two seeds from torch's generator: the backward pass computes it again.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import power_of_two, tiles
from .._launch import launch
from .._random import uniform
from ..sums.triton_kernels import column_sum

ELEMENTS = 2048
"""Elements of a tile of rows."""

PROGRAMS = 528
"""Most programs of the backward pass: a few per multiprocessor, and so few that adding up their parts is cheap."""


@triton.jit
def _factor(p_seed, p_scale, o_row, m_row, o_place, per_scale, dropout, DROPOUT: tl.constexpr, SCALE: tl.constexpr):
    """Return what each element of the branch is multiplied by, ``[ROWS, BD]`` (or something that broadcasts to it)."""
    b_factor = tl.full([1, 1], 1.0, tl.float32)
    if SCALE:
        b_factor = tl.load(p_scale + o_row // per_scale, mask=m_row, other=0.0).to(tl.float32)[:, None]
    if DROPOUT:
        b_kept = uniform(p_seed, o_place) >= dropout
        b_factor = tl.where(b_kept, b_factor / (1.0 - dropout), 0.0)
    return b_factor


@triton.jit(do_not_specialize=["rows", "per_scale", "dropout"])
def _norm_forward(
    p_residual, p_branch, p_branch_bias, p_scale, p_seed, p_weight, p_bias, p_sum, p_normed, p_statistics,
    rows, per_scale, dropout, eps,
    D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr,
    BRANCH: tl.constexpr, BIAS: tl.constexpr, SCALE: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    o_row, o_dim = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BD)
    m_row, m_dim = o_row < rows, o_dim < D
    m_own = m_row[:, None] & m_dim[None, :]
    o_place = o_row[:, None].to(tl.int64) * D + o_dim[None, :]
    b_x = tl.load(p_residual + o_place, mask=m_own, other=0.0).to(tl.float32)
    if BRANCH:
        b_branch = tl.load(p_branch + o_place, mask=m_own, other=0.0).to(tl.float32)
        if BIAS:
            b_branch += tl.load(p_branch_bias + o_dim, mask=m_dim, other=0.0).to(tl.float32)[None, :]
        b_x += b_branch * _factor(p_seed, p_scale, o_row, m_row, o_place, per_scale, dropout, DROPOUT, SCALE)
        # What is normalised is the sum as it is stored, so that the backward pass starts from the same numbers.
        b_stored = b_x.to(p_sum.dtype.element_ty)
        tl.store(p_sum + o_place, b_stored, mask=m_own)
        b_x = b_stored.to(tl.float32)
    b_mean = tl.sum(tl.where(m_own, b_x, 0.0), axis=1) / D
    b_centred = tl.where(m_own, b_x - b_mean[:, None], 0.0)
    b_inverse = 1.0 / tl.sqrt(tl.sum(b_centred * b_centred, axis=1) / D + eps)
    b_weight = tl.load(p_weight + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_bias = tl.load(p_bias + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_normed = b_centred * b_inverse[:, None] * b_weight[None, :] + b_bias[None, :]
    tl.store(p_normed + o_place, b_normed.to(p_normed.dtype.element_ty), mask=m_own)
    tl.store(p_statistics + o_row, b_mean, mask=m_row)
    tl.store(p_statistics + rows + o_row, b_inverse, mask=m_row)


@triton.jit(do_not_specialize=["rows", "per_scale", "dropout"])
def _norm_backward(
    p_grad_sum, p_grad_normed, p_sum, p_statistics, p_scale, p_seed, p_weight, p_grad_residual, p_grad_branch, p_partial,
    rows, per_scale, dropout,
    D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr,
    SUM: tl.constexpr, BRANCH: tl.constexpr, SCALE: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    i_program, o_dim = tl.program_id(0), tl.arange(0, BD)
    m_dim = o_dim < D
    b_weight = tl.load(p_weight + o_dim, mask=m_dim, other=0.0).to(tl.float32)
    b_grad_weight = tl.zeros([ROWS, BD], tl.float32)
    b_grad_bias = tl.zeros([ROWS, BD], tl.float32)
    b_grad_branch_bias = tl.zeros([ROWS, BD], tl.float32)
    for start in range(i_program * ROWS, rows, tl.num_programs(0) * ROWS):
        o_row = start + tl.arange(0, ROWS)
        m_row = o_row < rows
        m_own = m_row[:, None] & m_dim[None, :]
        o_place = o_row[:, None].to(tl.int64) * D + o_dim[None, :]
        b_mean = tl.load(p_statistics + o_row, mask=m_row, other=0.0)
        b_inverse = tl.load(p_statistics + rows + o_row, mask=m_row, other=0.0)
        b_x = tl.load(p_sum + o_place, mask=m_own, other=0.0).to(tl.float32)
        b_unit = tl.where(m_own, (b_x - b_mean[:, None]) * b_inverse[:, None], 0.0)
        b_grad = tl.load(p_grad_normed + o_place, mask=m_own, other=0.0).to(tl.float32)
        b_grad_weight += b_grad * b_unit
        b_grad_bias += b_grad
        b_slope = b_grad * b_weight[None, :]
        b_along = tl.sum(b_slope * b_unit, axis=1) / D
        b_slope = (b_slope - tl.sum(b_slope, axis=1)[:, None] / D - b_unit * b_along[:, None]) * b_inverse[:, None]
        if SUM:
            b_slope += tl.load(p_grad_sum + o_place, mask=m_own, other=0.0).to(tl.float32)
        tl.store(p_grad_residual + o_place, b_slope.to(p_grad_residual.dtype.element_ty), mask=m_own)
        if BRANCH:
            b_slope *= _factor(p_seed, p_scale, o_row, m_row, o_place, per_scale, dropout, DROPOUT, SCALE)
            b_grad_branch_bias += tl.where(m_own, b_slope, 0.0)
            tl.store(p_grad_branch + o_place, b_slope.to(p_grad_branch.dtype.element_ty), mask=m_own)
    p_mine = p_partial + i_program * 3 * D + o_dim
    tl.store(p_mine, tl.sum(b_grad_weight, axis=0), mask=m_dim)
    tl.store(p_mine + D, tl.sum(b_grad_bias, axis=0), mask=m_dim)
    tl.store(p_mine + 2 * D, tl.sum(b_grad_branch_bias, axis=0), mask=m_dim)


def _constants(dim: int) -> dict[str, Any]:
    wide = power_of_two(dim)
    # Few threads with many numbers each: what a row sums to then crosses fewer warps.
    warps = 2 if wide <= ELEMENTS else 8
    return {"D": dim, "BD": wide, "ROWS": max(1, ELEMENTS // wide), "num_warps": warps, "enable_fp_fusion": True}


def forward(
    residual: Tensor, branch: Tensor | None, branch_bias: Tensor | None, scale: Tensor | None, seed: Tensor | None,
    dropout: float, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the sum (empty without a branch), the normed rows, and their statistics float32 ``[2, rows]``."""
    dim = residual.shape[-1]
    rows = residual.numel() // dim
    residual = residual.contiguous()
    total = torch.empty(residual.shape if branch is not None else (0,), dtype=residual.dtype, device=residual.device)
    normed = torch.empty(residual.shape, dtype=dtype, device=residual.device)
    statistics = torch.empty(2, rows, dtype=torch.float32, device=residual.device)
    constants = _constants(dim)
    if rows:
        launch(
            "residual_norm", residual.device, _norm_forward, (tiles(rows, constants["ROWS"]),),
            residual, _or(branch, residual), _or(branch_bias, weight), _or(scale, weight), _or(seed, weight),
            weight.contiguous(), bias.contiguous(), total, normed, statistics, rows, rows // residual.shape[0], dropout, eps,
            BRANCH=branch is not None, BIAS=branch_bias is not None, SCALE=scale is not None, DROPOUT=seed is not None,
            **constants,
        )  # fmt: skip
    return total, normed, statistics


def backward(
    grad_sum: Tensor | None, grad_normed: Tensor, total: Tensor, statistics: Tensor, scale: Tensor | None, seed: Tensor | None,
    dropout: float, weight: Tensor, branch_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of residual and branch (empty without one), and float32 ``[3, D]``: weight, bias, branch bias."""
    dim = total.shape[-1]
    rows = total.numel() // dim
    total = total.contiguous()
    grad_residual = torch.empty_like(total)
    grad_branch = total.new_empty(0) if branch_dtype is None else torch.empty_like(total, dtype=branch_dtype)
    constants = _constants(dim)
    programs = min(PROGRAMS, tiles(rows, constants["ROWS"]))
    partial = torch.empty(programs, 3, dim, dtype=torch.float32, device=total.device)
    if rows:
        launch(
            "residual_norm (backward)", total.device, _norm_backward, (programs,),
            _or(grad_sum, total).contiguous(), grad_normed.contiguous(), total, statistics, _or(scale, weight),
            _or(seed, weight), weight.contiguous(), grad_residual, grad_branch, partial,
            rows, rows // total.shape[0], dropout,
            SUM=grad_sum is not None, BRANCH=branch_dtype is not None, SCALE=scale is not None, DROPOUT=seed is not None,
            **constants,
        )  # fmt: skip
    return grad_residual, grad_branch, column_sum(partial.flatten(1)).view(3, dim)


def _or(tensor: Tensor | None, unused: Tensor) -> Tensor:
    """Return a tensor to pass where the kernel's flags say that it is not read."""
    return unused if tensor is None else tensor.contiguous()
