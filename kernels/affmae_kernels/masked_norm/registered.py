"""The masked norm as operators that torch knows: autograd and fake tensors for tracing. It counts no operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_GIVEN = "Tensor rows, Tensor? visible, Tensor weight, Tensor bias, float eps"


@torch.library.custom_op("affmae::masked_norm_gelu", mutates_args=(), schema=f"({_GIVEN}, ScalarType dtype) -> Tensor")
def masked_norm_gelu_op(
    rows: Tensor, visible: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """Return the result, contiguous."""
    from .triton_kernels import forward

    return forward(rows, visible, weight, bias, eps, dtype)


@masked_norm_gelu_op.register_fake
def _(rows: Tensor, visible: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    return rows.new_empty(rows.shape, dtype=dtype)


@torch.library.custom_op(
    "affmae::masked_norm_gelu_backward", mutates_args=(), schema=f"(Tensor grad, {_GIVEN}) -> (Tensor rows, Tensor learned)"
)
def masked_norm_gelu_backward_op(
    grad: Tensor, rows: Tensor, visible: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the rows, and of weight and bias ``[2, D]``."""
    from .triton_kernels import backward

    return backward(grad, rows, visible, weight, bias, eps)


@masked_norm_gelu_backward_op.register_fake
def _(grad: Tensor, rows: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    return rows.new_empty(rows.shape), rows.new_empty(2, rows.shape[-1], dtype=torch.float32)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    rows, visible, weight, bias, ctx.eps, _ = inputs
    ctx.save_for_backward(rows, visible, weight, bias)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rows, visible, weight, bias = ctx.saved_tensors
    grad_rows, learned = masked_norm_gelu_backward_op(grad, rows, visible, weight, bias, ctx.eps)
    return grad_rows, None, learned[0].to(weight.dtype), learned[1].to(bias.dtype), None, None


masked_norm_gelu_op.register_autograd(_differentiate, setup_context=_remember)
