"""ReLU with dropout as operators that torch knows: autograd and fake tensors for tracing. It counts no operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op(
    "affmae::relu_dropout", mutates_args=(), schema="(Tensor hidden, Tensor? seed, float dropout) -> Tensor"
)
def relu_dropout_op(hidden: Tensor, seed: Tensor | None, dropout: float) -> Tensor:
    """Return the result, contiguous."""
    from .triton_kernels import forward

    return forward(hidden, seed, dropout)


@torch.library.custom_op(
    "affmae::relu_dropout_backward", mutates_args=(), schema="(Tensor grad, Tensor result, float dropout) -> Tensor"
)
def relu_dropout_backward_op(grad: Tensor, result: Tensor, dropout: float) -> Tensor:
    """Return the gradient of the input."""
    from .triton_kernels import backward

    return backward(grad, result, dropout)


@relu_dropout_op.register_fake
@relu_dropout_backward_op.register_fake
def _(given: Tensor, *_more: Any) -> Tensor:
    return given.new_empty(given.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.dropout = inputs[2]
    ctx.save_for_backward(output)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (result,) = ctx.saved_tensors
    return relu_dropout_backward_op(grad, result, ctx.dropout), None, None


relu_dropout_op.register_autograd(_differentiate, setup_context=_remember)
