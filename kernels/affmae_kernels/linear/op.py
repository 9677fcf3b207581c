"""The public linear layer and perceptron: what they compute, and the checks before they do."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .._autocast import to_autocast
from .._check import check_shape
from .._dispatch import runs_in_triton
from ..activation.op import relu_dropout
from .functions import FeedForward, Linear
from .narrow import narrowed

Activation = Literal["gelu", "relu"]


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``tokens · weightᵀ + bias``.

    The gradients of weight and bias are summed and returned in float32 where autocast makes the products in half precision.

    Parameters
    ----------
    tokens
        ``[..., I]``.
    weight, bias
        ``[O, I]`` and ``[O]``, or None for no bias.

    Returns
    -------
    Tensor
        ``[..., O]``, in autocast's dtype inside an autocast region.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    check_shape("weight", weight, (None, tokens.shape[-1]), "[O, I]")
    if bias is not None:
        check_shape("bias", bias, (weight.shape[0],), "[O]")
    (tokens,) = to_autocast(tokens)
    if not runs_in_triton(tokens.device, tokens.dtype):
        return functional.linear(tokens, weight, bias)
    with torch.autocast(tokens.device.type, enabled=False):
        copies = narrowed(weight, tokens.dtype), None if bias is None else narrowed(bias, tokens.dtype)
        product: Tensor = Linear.apply(tokens, weight, bias, *copies)  # type: ignore[no-untyped-call]
        return product


def feed_forward(
    tokens: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor | None,
    activation: Activation,
    dropout: float = 0.0,
) -> Tensor:
    r"""Return ``dropout(act(tokens · weight1ᵀ + bias1)) · weight2ᵀ + bias2``.

    The Triton implementation keeps nothing of the hidden layer: the backward pass computes it again.

    Parameters
    ----------
    tokens
        ``[..., I]``.
    weight1, bias1
        ``[F, I]`` and ``[F]``.
    weight2, bias2
        ``[O, F]`` and ``[O]``, or None for no bias.
    activation
        ``"gelu"`` (exact, without dropout) or ``"relu"``.
    dropout
        As in :func:`~affmae_kernels.relu_dropout`.

    Returns
    -------
    Tensor
        ``[..., O]``, in autocast's dtype inside an autocast region.

    Raises
    ------
    ValueError
        If shapes do not fit, the activation is unknown, or GELU is asked for with dropout.
    """
    check_shape("weight1", weight1, (None, tokens.shape[-1]), "[F, I]")
    check_shape("bias1", bias1, (weight1.shape[0],), "[F]")
    check_shape("weight2", weight2, (None, weight1.shape[0]), "[O, F]")
    if bias2 is not None:
        check_shape("bias2", bias2, (weight2.shape[0],), "[O]")
    if activation not in ("gelu", "relu"):
        raise ValueError(f"activation must be gelu or relu, got {activation!r}")
    if activation == "gelu" and dropout != 0:
        raise ValueError(f"dropout follows a ReLU only, got dropout {dropout} with gelu")
    (tokens,) = to_autocast(tokens)
    if not runs_in_triton(tokens.device, tokens.dtype):
        hidden = functional.linear(tokens, weight1, bias1)
        hidden = functional.gelu(hidden) if activation == "gelu" else relu_dropout(hidden, dropout)
        return functional.linear(hidden, weight2, bias2)
    seed = None
    if dropout > 0:
        seed = torch.randint(-(2**31), 2**31, (2,), device=tokens.device, dtype=torch.int32)
    with torch.autocast(tokens.device.type, enabled=False):
        copies = (narrowed(given, tokens.dtype) for given in (weight1, bias1, weight2))
        given = (tokens, weight1, bias1, weight2, bias2, activation, dropout, seed, *copies)
        product: Tensor = FeedForward.apply(*given)  # type: ignore[no-untyped-call]
        return product
