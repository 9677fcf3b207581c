"""ReLU with dropout. The gradient passes where the result is positive: dropped and negative elements are zero alike."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import tiles
from .._launch import launch
from .._random import uniform

BLOCK = 2048
"""Elements per program."""


@triton.jit(do_not_specialize=["dropout"])
def _relu_forward(p_hidden, p_seed, p_out, count, dropout, DROPOUT: tl.constexpr, BLOCK: tl.constexpr):
    o_place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m_place = o_place < count
    b_value = tl.load(p_hidden + o_place, mask=m_place, other=0.0).to(tl.float32)
    b_value = tl.maximum(b_value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if DROPOUT:
        b_value = tl.where(uniform(p_seed, o_place) >= dropout, b_value / (1.0 - dropout), 0.0)
    tl.store(p_out + o_place, b_value.to(p_out.dtype.element_ty), mask=m_place)


@triton.jit(do_not_specialize=["dropout"])
def _relu_backward(p_grad, p_result, p_out, count, dropout, BLOCK: tl.constexpr):
    o_place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m_place = o_place < count
    b_result = tl.load(p_result + o_place, mask=m_place, other=0.0)
    b_grad = tl.load(p_grad + o_place, mask=m_place, other=0.0).to(tl.float32)
    b_grad = tl.where(b_result > 0, b_grad / (1.0 - dropout), 0.0)
    tl.store(p_out + o_place, b_grad.to(p_out.dtype.element_ty), mask=m_place)


def forward(hidden: Tensor, seed: Tensor | None, dropout: float) -> Tensor:
    """Return the result, contiguous."""
    hidden = hidden.contiguous()
    result = torch.empty_like(hidden)
    count = hidden.numel()
    if count:
        launch(
            "relu_dropout",
            hidden.device,
            _relu_forward,
            (tiles(count, BLOCK),),
            hidden,
            hidden if seed is None else seed,
            result,
            count,
            dropout,
            DROPOUT=seed is not None,
            BLOCK=BLOCK,
        )
    return result


def backward(grad: Tensor, result: Tensor, dropout: float) -> Tensor:
    """Return the gradient of the input."""
    given = torch.empty_like(result)
    count = result.numel()
    if count:
        launch(
            "relu_dropout (backward)", result.device, _relu_backward, (tiles(count, BLOCK),),
            grad.contiguous(), result, given, count, dropout, BLOCK=BLOCK,
        )  # fmt: skip
    return given
