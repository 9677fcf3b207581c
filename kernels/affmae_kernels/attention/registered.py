"""Cluster attention as operators that torch knows: autograd, fake tensors for tracing, and true counts of operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..tiles.packing import ClusterTiles

_GIVEN = (
    "Tensor query, Tensor key, Tensor value, Tensor positions, Tensor? clusters, int cluster_size, "
    "Tensor bias_weight, Tensor bias, Tensor blank_key, Tensor blank_value, "
    "Tensor? lists, Tensor? counts, Tensor? times, Tensor? key_lists, Tensor? key_slots, Tensor? key_counts"
)


@torch.library.custom_op(
    "affmae::cluster_attention", mutates_args=(), schema=f"({_GIVEN}) -> (Tensor output, Tensor log_sum_exp)"
)
def cluster_attention_op(
    query: Tensor, key: Tensor, value: Tensor, positions: Tensor, clusters: Tensor | None, cluster_size: int,
    bias_weight: Tensor, bias: Tensor, blank_key: Tensor, blank_value: Tensor, lists: Tensor | None, counts: Tensor | None,
    times: Tensor | None, key_lists: Tensor | None, key_slots: Tensor | None, key_counts: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the output ``[B, n, H, d]`` and the log-sum-exp float32 ``[B, H, n]`` that the backward pass starts from.

    The last six arguments are the fields of :class:`.ClusterTiles`, None if every token attends to all.
    """
    from .triton_kernels import forward

    meet = _meetings(lists, counts, times, key_lists, key_slots, key_counts)
    return forward(query, key, value, positions, clusters, cluster_size, bias_weight, bias, blank_key, blank_value, meet)


def _meetings(*given: Tensor | None) -> ClusterTiles | None:
    there = [tensor for tensor in given if tensor is not None]
    return ClusterTiles(*there) if there else None


@cluster_attention_op.register_fake
def _(query: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    batch, tokens, heads, _ = query.shape
    return query.new_empty(query.shape), query.new_empty(batch, heads, tokens, dtype=torch.float32)


@torch.library.custom_op(
    "affmae::cluster_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_GIVEN}, Tensor output, Tensor log_sum_exp) "
    "-> (Tensor query, Tensor key, Tensor value, Tensor learned)",
)
def cluster_attention_backward_op(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, positions: Tensor, clusters: Tensor | None, cluster_size: int,
    bias_weight: Tensor, bias: Tensor, blank_key: Tensor, blank_value: Tensor, lists: Tensor | None, counts: Tensor | None,
    times: Tensor | None, key_lists: Tensor | None, key_slots: Tensor | None, key_counts: Tensor | None, output: Tensor,
    log_sum_exp: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of query, key, value, and of bias weight, bias and blank tokens, one after the other."""
    from .triton_kernels import backward

    return backward(
        grad, query, key, value, positions, clusters, cluster_size, bias_weight, bias, blank_key, blank_value,
        _meetings(lists, counts, times, key_lists, key_slots, key_counts), output, log_sum_exp,
    )  # fmt: skip


@cluster_attention_backward_op.register_fake
def _(grad: Tensor, query: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, _, heads, dim = query.shape
    same = [query.new_empty(query.shape) for _ in range(3)]
    return same[0], same[1], same[2], query.new_empty(heads * (6 + 2 * dim), dtype=torch.float32)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *features, ctx.cluster_size, bias_weight, bias, blank_key, blank_value = inputs[:10]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(
        *features, bias_weight, bias, blank_key, blank_value, *inputs[10:], *(part.detach() for part in output)
    )


def _differentiate(ctx: Any, grad: Tensor | None, _unused: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 16
    query, key, value, positions, clusters, bias_weight, bias, blank_key, blank_value, *known = ctx.saved_tensors
    grad_query, grad_key, grad_value, learned = cluster_attention_backward_op(
        grad, query, key, value, positions, clusters, ctx.cluster_size, bias_weight, bias, blank_key, blank_value, *known
    )
    weights = (bias_weight, bias, blank_key, blank_value)
    parts = torch.split(learned, [weight.numel() for weight in weights])
    grads = (part.view(weight.shape).to(weight.dtype) for part, weight in zip(parts, weights, strict=True))
    return grad_query, grad_key, grad_value, None, None, None, *grads, *(None,) * 6


cluster_attention_op.register_autograd(_differentiate, setup_context=_remember)


def attention_operations(query_shape: Any, clusters_shape: Any, cluster_size: int) -> int:
    """Return the operations of the two matrix products of the forward pass: what the neighbourhoods need, not what tiles do."""
    batch, tokens, heads, dim = query_shape
    keys = tokens if clusters_shape is None else clusters_shape[-1] * cluster_size
    return int(4 * batch * tokens * heads * (keys + 1) * dim)


@register_flop_formula(torch.ops.affmae.cluster_attention)
def _(query: Any, key: Any, value: Any, positions: Any, clusters: Any, cluster_size: int, *given: Any, **more: Any) -> int:
    return attention_operations(query, clusters, cluster_size)


@register_flop_formula(torch.ops.affmae.cluster_attention_backward)
def _(
    grad: Any, query: Any, key: Any, value: Any, positions: Any, clusters: Any, cluster_size: int, *given: Any, **more: Any
) -> int:
    return attention_operations(query, clusters, cluster_size) * 5 // 2
