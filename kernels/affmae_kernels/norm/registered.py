"""The residual norm as operators that torch knows: autograd and fake tensors for tracing. It counts no operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op(
    "affmae::residual_norm",
    mutates_args=(),
    schema="(Tensor residual, Tensor? branch, Tensor? branch_bias, Tensor? scale, Tensor? seed, float dropout, Tensor weight, "
    "Tensor bias, float eps, ScalarType dtype) -> (Tensor sum, Tensor normed, Tensor statistics)",
)
def residual_norm_op(
    residual: Tensor, branch: Tensor | None, branch_bias: Tensor | None, scale: Tensor | None, seed: Tensor | None,
    dropout: float, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the sum (empty without a branch), the normed tokens, and mean and inverse deviation float32 ``[2, rows]``."""
    from .triton_kernels import forward

    return forward(residual, branch, branch_bias, scale, seed, dropout, weight, bias, eps, dtype)


@residual_norm_op.register_fake
def _(
    residual: Tensor, branch: Tensor | None, branch_bias: Tensor | None, scale: Tensor | None, seed: Tensor | None,
    dropout: float, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    rows = residual.numel() // residual.shape[-1]
    total = residual.new_empty(residual.shape if branch is not None else (0,))
    return total, residual.new_empty(residual.shape, dtype=dtype), residual.new_empty(2, rows, dtype=torch.float32)


@torch.library.custom_op(
    "affmae::residual_norm_backward",
    mutates_args=(),
    schema="(Tensor? grad_sum, Tensor grad_normed, Tensor sum, Tensor statistics, Tensor? scale, Tensor? seed, float dropout, "
    "Tensor weight, ScalarType? branch_dtype) -> (Tensor residual, Tensor branch, Tensor learned)",
)
def residual_norm_backward_op(
    grad_sum: Tensor | None, grad_normed: Tensor, total: Tensor, statistics: Tensor, scale: Tensor | None, seed: Tensor | None,
    dropout: float, weight: Tensor, branch_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of residual and branch (empty without one), and of weight, bias and branch bias ``[3, D]``."""
    from .triton_kernels import backward

    return backward(grad_sum, grad_normed, total, statistics, scale, seed, dropout, weight, branch_dtype)


@residual_norm_backward_op.register_fake
def _(
    grad_sum: Tensor | None, grad_normed: Tensor, total: Tensor, statistics: Tensor, scale: Tensor | None, seed: Tensor | None,
    dropout: float, weight: Tensor, branch_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    branch = total.new_empty(0) if branch_dtype is None else total.new_empty(total.shape, dtype=branch_dtype)
    return total.new_empty(total.shape), branch, total.new_empty(3, total.shape[-1], dtype=torch.float32)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    residual, branch, branch_bias, scale, seed, ctx.dropout, weight, bias, _, _ = inputs
    total, _, statistics = output
    ctx.set_materialize_grads(False)
    ctx.branch_dtype = None if branch is None else branch.dtype
    ctx.bias_dtypes = bias.dtype, None if branch_bias is None else branch_bias.dtype
    ctx.save_for_backward(residual if branch is None else total.detach(), statistics.detach(), scale, seed, weight)


def _differentiate(
    ctx: Any, grad_sum: Tensor | None, grad_normed: Tensor | None, _unused: Tensor | None
) -> tuple[Tensor | None, ...]:
    total, statistics, scale, seed, weight = ctx.saved_tensors
    if grad_normed is None:
        if grad_sum is None:
            return (None,) * 10
        grad_normed = torch.zeros_like(total)
    grad_residual, grad_branch, learned = residual_norm_backward_op(
        grad_sum, grad_normed, total, statistics, scale, seed, ctx.dropout, weight, ctx.branch_dtype
    )
    bias_dtype, branch_bias_dtype = ctx.bias_dtypes
    return (
        grad_residual, None if ctx.branch_dtype is None else grad_branch,
        None if branch_bias_dtype is None else learned[2].to(branch_bias_dtype), None, None, None,
        learned[0].to(weight.dtype), learned[1].to(bias_dtype), None, None,
    )  # fmt: skip


residual_norm_op.register_autograd(_differentiate, setup_context=_remember)
