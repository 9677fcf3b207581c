"""Deformable attention as operators that torch knows: autograd, fake tensors for tracing, and true counts of operations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..search.index import SiteIndex
from .reference import POINT_NEIGHBOURS, index_dtype


@torch.library.custom_op(
    "affmae::deformable_attention",
    mutates_args=(),
    schema="(Tensor value, Tensor positions, Tensor points, Tensor mixing, Tensor power, int[]? grid, "
    "Tensor? cells, Tensor? near, Tensor? counts, Tensor? radii) -> (Tensor output, Tensor neighbours)",
)
def deformable_attention_op(
    value: Tensor, positions: Tensor, points: Tensor, mixing: Tensor, power: Tensor, grid: list[int] | None,
    cells: Tensor | None, near: Tensor | None, counts: Tensor | None, radii: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the output ``[B, q, H, d]`` and each point's nearest tokens, int16 or int32 ``[B, q, H, P, 4]``.

    The last four arguments are the fields of :class:`.SiteIndex`, or None.
    """
    from .triton_kernels import forward

    index = None
    if cells is not None and near is not None and counts is not None and radii is not None:
        index = SiteIndex(cells, near, counts, radii)
    return forward(value, positions, points, mixing, power, None if grid is None else (grid[0], grid[1]), index)


@deformable_attention_op.register_fake
def _(value: Tensor, positions: Tensor, points: Tensor, mixing: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    batch, tokens, heads, dim = value.shape
    near = min(POINT_NEIGHBOURS, tokens)
    output = value.new_empty(batch, points.shape[1], heads, dim)
    return output, points.new_empty(*mixing.shape, near, dtype=index_dtype(tokens))


@torch.library.custom_op(
    "affmae::deformable_attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor value, Tensor positions, Tensor points, Tensor mixing, Tensor power, Tensor neighbours) "
    "-> (Tensor value, Tensor points, Tensor mixing, Tensor power)",
)
def deformable_attention_backward_op(
    grad: Tensor, value: Tensor, positions: Tensor, points: Tensor, mixing: Tensor, power: Tensor, neighbours: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of value, points, mixing weights and power."""
    from .triton_kernels import backward

    return backward(grad, value, positions, points, mixing, power, neighbours)


@deformable_attention_backward_op.register_fake
def _(
    grad: Tensor, value: Tensor, positions: Tensor, points: Tensor, mixing: Tensor, power: Tensor, neighbours: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = torch.float32
    return (
        value.new_empty(value.shape), points.new_empty(points.shape), mixing.new_empty(mixing.shape, dtype=wide),
        power.new_empty((), dtype=wide),
    )  # fmt: skip


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    value, positions, points, mixing, power = inputs[:5]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(value, positions, points, mixing, power, output[1].detach())


def _differentiate(ctx: Any, grad: Tensor | None, _unused: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 10
    value, positions, points, mixing, power, neighbours = ctx.saved_tensors
    grad_value, grad_points, grad_mixing, grad_power = deformable_attention_backward_op(
        grad, value, positions, points, mixing, power, neighbours
    )
    return grad_value, None, grad_points, grad_mixing.to(mixing.dtype), grad_power.to(power.dtype), *(None,) * 5


deformable_attention_op.register_autograd(_differentiate, setup_context=_remember)


def deformable_operations(value_shape: Any, mixing_shape: Any) -> int:
    """Return the operations of the weighted sums of the forward pass."""
    return int(2 * math.prod(mixing_shape) * min(POINT_NEIGHBOURS, value_shape[1]) * value_shape[-1])


@register_flop_formula(torch.ops.affmae.deformable_attention)
def _(value: Any, positions: Any, points: Any, mixing: Any, *given: Any, **more: Any) -> int:
    return deformable_operations(value, mixing)


@register_flop_formula(torch.ops.affmae.deformable_attention_backward)
def _(grad: Any, value: Any, positions: Any, points: Any, mixing: Any, *given: Any, **more: Any) -> int:
    return 2 * deformable_operations(value, mixing)
