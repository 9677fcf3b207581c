"""The public residual norm: what it computes, and the checks before it does."""

from __future__ import annotations

import torch
from torch import Tensor

from .._autocast import autocast_dtype
from .._check import check_same_device, check_shape
from .._dispatch import runs_in_triton
from .reference import residual_norm_reference
from .registered import residual_norm_op

WIDEST = 4096
"""Channels that one program normalises."""


def residual_norm(
    residual: Tensor,
    branch: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-5,
    *,
    branch_bias: Tensor | None = None,
    scale: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Add a branch to a residual stream and normalise the sum.

    .. math:: x = r + \mathrm{dropout}(\sigma_b (y + b_y)),\qquad z = w \, (x - \bar x) / \sqrt{\mathrm{var}(x) + \epsilon} + b

    The backward pass needs nothing but ``x``, two numbers per token and the seed of the dropout.

    Parameters
    ----------
    residual
        ``[B, ..., D]``, the stream ``r``; ``x`` is of its dtype.
    branch
        ``[B, ..., D]``, what is added to it; None normalises the stream as it is.
    weight, bias
        ``[D]``, of the LayerNorm.
    branch_bias
        ``[D]``: the bias of the linear layer that made the branch, added here because its gradient then costs no pass of its
        own.
    scale
        ``[B]``, a factor per image (DropPath); no gradient flows to it.
    dropout
        Probability of an element of the branch to be dropped, 0 to below 1; the others are scaled up. Drawn from torch's
        default generator of the device, in its own way by each implementation.

    Returns
    -------
    sum, normed
        ``[B, ..., D]`` each: ``x`` (the residual itself where there is no branch) and ``z``, in autocast's dtype inside an
        autocast region, else in the dtype of the residual.

    Raises
    ------
    ValueError
        If shapes or devices do not fit, or the probability is out of range.
    """
    dim = residual.shape[-1] if residual.dim() >= 2 else -1
    check_shape("weight", weight, (dim,), "[D]")
    check_shape("bias", bias, (dim,), "[D]")
    if branch is not None:
        check_shape("branch", branch, tuple(residual.shape), "[B, ..., D]")
        check_same_device(residual=residual, branch=branch)
    if branch_bias is not None:
        check_shape("branch_bias", branch_bias, (dim,), "[D]")
    if scale is not None:
        check_shape("scale", scale, (residual.shape[0],), "[B]")
        scale = scale.detach()
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a probability from 0 to below 1, got {dropout}")
    dtype = autocast_dtype(residual)
    limit = None if dim <= WIDEST else f"{dim} channels, more than {WIDEST}"
    in_triton = runs_in_triton(residual.device, dtype, limit)
    with torch.autocast(residual.device.type, enabled=False):
        if not in_triton:
            return residual_norm_reference(residual, branch, branch_bias, scale, dropout, weight, bias, eps, dtype)
        seed = None
        if branch is not None and dropout > 0:
            seed = torch.randint(-(2**31), 2**31, (2,), device=residual.device, dtype=torch.int32)
        total, normed, _ = residual_norm_op(residual, branch, branch_bias, scale, seed, dropout, weight, bias, eps, dtype)
        return (residual if branch is None else total), normed
