"""Gradients of linear layers: products on the matrix units with float32 results, column sums in one pass.

Automatic differentiation of ``torch.nn.functional.linear`` under autocast rounds the gradients of the weights to half
precision, casts each of them back, and sums the bias's gradient in a kernel made for any axis.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..activation.registered import relu_dropout_backward_op, relu_dropout_op
from .registered import column_sum_op


class Linear(torch.autograd.Function):
    """``tokens · weightᵀ + bias``; arguments as in :func:`~affmae_kernels.linear`."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None, narrow: Tensor, narrow_bias: Tensor | None
    ) -> Tensor:
        """Multiply; remember tokens and weights in the dtype of the product, as which they are given, too."""
        ctx.save_for_backward(tokens, narrow)
        ctx.kinds = weight.dtype, None if bias is None else bias.dtype
        return functional.linear(tokens, narrow, narrow_bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of tokens, weight and bias."""
        _refuse_second_derivatives("linear")
        tokens, weight = ctx.saved_tensors
        grad = _rows(grads[0])
        weight_dtype, bias_dtype = ctx.kinds
        return (
            (grad @ weight).view(tokens.shape) if ctx.needs_input_grad[0] else None,
            _weight_gradient(grad, _rows(tokens), weight_dtype),
            None if bias_dtype is None else column_sum_op(grad).to(bias_dtype),
            None, None,
        )  # fmt: skip


class FeedForward(torch.autograd.Function):
    """Two linear layers with an activation between them; arguments as in :func:`~affmae_kernels.feed_forward`."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor | None, activation: str,
        dropout: float, seed: Tensor | None, *narrow: Tensor,
    ) -> Tensor:  # fmt: skip
        """Compute both layers; remember tokens, weights and the seed, but nothing of the hidden layer.

        ``narrow``: first weight and bias, and second weight, in the dtype of the products.
        """
        ctx.save_for_backward(tokens, *narrow, seed)
        ctx.activation, ctx.dropout = activation, dropout
        ctx.kinds = weight1.dtype, None if bias2 is None else bias2.dtype
        hidden = functional.linear(tokens, narrow[0], narrow[1])
        hidden = functional.gelu(hidden) if activation == "gelu" else relu_dropout_op(hidden, seed, dropout)
        return functional.linear(hidden, narrow[2], None if bias2 is None else bias2.to(tokens.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the hidden layer again and return the gradients of tokens, weights and biases."""
        _refuse_second_derivatives("feed_forward")
        tokens, weight1, bias1, weight2, seed = ctx.saved_tensors
        grad, rows = _rows(grads[0]), _rows(tokens)
        weight_dtype, bias_dtype = ctx.kinds
        before = functional.linear(rows, weight1, bias1)
        grad_hidden = grad @ weight2
        if ctx.activation == "gelu":
            hidden = functional.gelu(before)
            grad_hidden = torch.ops.aten.gelu_backward(grad_hidden, before)
        else:
            hidden = relu_dropout_op(before, seed, ctx.dropout)
            grad_hidden = relu_dropout_backward_op(grad_hidden, hidden, ctx.dropout)
        return (
            (grad_hidden @ weight1).view(tokens.shape) if ctx.needs_input_grad[0] else None,
            _weight_gradient(grad_hidden, rows, weight_dtype),
            column_sum_op(grad_hidden).to(weight_dtype),
            _weight_gradient(grad, hidden, weight_dtype),
            None if bias_dtype is None else column_sum_op(grad).to(bias_dtype),
            *(None,) * 6,
        )  # fmt: skip


def _refuse_second_derivatives(operator: str) -> None:
    """Raise where gradients are to be differentiated: weights come as copies, to which no gradient of a gradient would flow.

    ``once_differentiable`` would not do: it speaks up only where no other path leads to what is differentiated by.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{operator} cannot be differentiated twice in Triton (create_graph=True); set AFFMAE_KERNELS=pytorch for that"
        )


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _weight_gradient(grad: Tensor, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``gradᵀ · tokens`` in the dtype of the weights, without rounding on the way where the device can do that."""
    if grad.is_cuda and grad.dtype != dtype:
        return torch.mm(grad.t(), tokens, out_dtype=dtype)
    return (grad.t() @ tokens).to(dtype)
