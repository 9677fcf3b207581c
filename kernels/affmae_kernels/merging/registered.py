"""Token merge as operators that torch knows: autograd, fake tensors for tracing, and true counts of operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

_GIVEN = (
    "Tensor tokens, Tensor scores, Tensor positions, Tensor survivors, Tensor? clusters, int cluster_size, "
    "Tensor weight, Tensor bias, Tensor norm_weight, Tensor norm_bias, float eps"
)


@torch.library.custom_op("affmae::token_merge", mutates_args=(), schema=f"({_GIVEN}) -> Tensor")
def token_merge_op(
    tokens: Tensor, scores: Tensor, positions: Tensor, survivors: Tensor, clusters: Tensor | None, cluster_size: int,
    weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float,
) -> Tensor:  # fmt: skip
    """Return the merged tokens ``[B, s, 4·D]``."""
    from .triton_kernels import forward

    return forward(tokens, scores, positions, survivors, clusters, cluster_size, weight, bias, norm_weight, norm_bias, eps)


@token_merge_op.register_fake
def _(tokens: Tensor, scores: Tensor, positions: Tensor, survivors: Tensor, *given: Any) -> Tensor:
    weight = given[2]
    return tokens.new_empty(tokens.shape[0], survivors.shape[1], weight.shape[0] * tokens.shape[2])


@torch.library.custom_op(
    "affmae::token_merge_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_GIVEN}) -> (Tensor tokens, Tensor scores, Tensor learned)",
)
def token_merge_backward_op(
    grad: Tensor, tokens: Tensor, scores: Tensor, positions: Tensor, survivors: Tensor, clusters: Tensor | None,
    cluster_size: int, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of tokens and scores, and of weight, bias, norm weight and norm bias side by side ``[4, 8]``."""
    from .triton_kernels import backward

    return backward(
        grad, tokens, scores, positions, survivors, clusters, cluster_size, weight, bias, norm_weight, norm_bias, eps
    )


@token_merge_backward_op.register_fake
def _(grad: Tensor, tokens: Tensor, scores: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    learned = tokens.new_empty(4, 8, dtype=torch.float32)
    return tokens.new_empty(tokens.shape), scores.new_empty(scores.shape), learned


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tokens, scores, positions, survivors, clusters, ctx.cluster_size, *learned, ctx.eps = inputs
    ctx.save_for_backward(tokens, scores, positions, survivors, clusters, *learned)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    tokens, scores, positions, survivors, clusters, weight, bias, norm_weight, norm_bias = ctx.saved_tensors
    grad_tokens, grad_scores, learned = token_merge_backward_op(
        grad, tokens, scores, positions, survivors, clusters, ctx.cluster_size, weight, bias, norm_weight, norm_bias, ctx.eps
    )
    grad_weight, grad_bias, grad_norm_weight, grad_norm_bias = learned.split((5, 1, 1, 1), dim=1)
    return (
        grad_tokens, grad_scores, None, None, None, None, grad_weight.to(weight.dtype), grad_bias.squeeze(1).to(bias.dtype),
        grad_norm_weight.squeeze(1).to(norm_weight.dtype), grad_norm_bias.squeeze(1).to(norm_bias.dtype), None,
    )  # fmt: skip


token_merge_op.register_autograd(_differentiate, setup_context=_remember)


def merge_operations(tokens_shape: Any, survivors_shape: Any, clusters_shape: Any, cluster_size: int, kinds: int) -> int:
    """Return the operations of the weighted sums of the forward pass."""
    batch, count, dim = tokens_shape
    keys = count if clusters_shape is None else clusters_shape[-1] * cluster_size
    return int(2 * batch * survivors_shape[-1] * keys * kinds * dim)


@register_flop_formula(torch.ops.affmae.token_merge)
def _(
    tokens: Any, scores: Any, positions: Any, survivors: Any, clusters: Any, size: int, weight: Any, *given: Any, **more: Any
) -> int:
    return merge_operations(tokens, survivors, clusters, size, weight[0])


@register_flop_formula(torch.ops.affmae.token_merge_backward)
def _(
    grad: Any, tokens: Any, scores: Any, positions: Any, survivors: Any, clusters: Any, size: int, weight: Any,
    *given: Any, **more: Any,
) -> int:  # fmt: skip
    return 2 * merge_operations(tokens, survivors, clusters, size, weight[0])
