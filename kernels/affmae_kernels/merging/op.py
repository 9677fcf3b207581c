"""The public token merge: what it computes, and the checks before it does."""

from __future__ import annotations

import torch
from torch import Tensor

from .._autocast import to_autocast
from .._check import check_same_device, check_shape
from .._dispatch import runs_in_triton
from ..tiles.packing import packing_limit
from .reference import token_merge_reference
from .registered import token_merge_op

KINDS = 4
"""Weights per neighbour that the kernels are written for."""


def token_merge(
    tokens: Tensor,
    scores: Tensor,
    positions: Tensor,
    survivors: Tensor,
    clusters: Tensor | None,
    cluster_size: int,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float = 1e-5,
) -> Tensor:
    r"""Sum the neighbourhood of every survivor with weights that depend on relative position and on the neighbours' scores.

    .. math:: y_{i,c} = \sum_j s_j \, \mathrm{GELU}(\mathrm{LN}(W \varphi(p_j - p_i) + b))_c \, x_j

    Source: AutoFocusFormer (arXiv 2304.12406), section 3.3.

    Parameters
    ----------
    tokens
        ``[B, n, D]``, in cluster order.
    scores
        ``[B, n]``, 0 to 1. The gradient to them is how the choice of survivors learns.
    positions
        ``[B, n, 2]``, ``(x, y)`` in patches; no gradient flows to them.
    survivors
        int64 ``[B, s]``, rows of the tokens that stay.
    clusters, cluster_size
        As in :func:`~affmae_kernels.cluster_attention`; None sums over all n tokens.
    weight, bias, norm_weight, norm_bias, eps
        ``[K, 5]``, ``[K]``, ``[K]``, ``[K]``: the linear map and LayerNorm that give K weights per neighbour.

    Returns
    -------
    Tensor
        ``[B, s, K·D]``, the D channels fastest.

    Raises
    ------
    ValueError
        If shapes or devices do not fit.
    """
    check_shape("tokens", tokens, (None, None, None), "[B, n, D]")
    batch, count = tokens.shape[:2]
    check_shape("scores", scores, (batch, count), "[B, n]")
    check_shape("positions", positions, (batch, count, 2), "[B, n, 2]")
    check_shape("survivors", survivors, (batch, None), "[B, s]")
    if clusters is not None:
        check_shape("clusters", clusters, (batch, count, None), "[B, n, c]")
    check_shape("weight", weight, (None, 5), "[K, 5]")
    for name, vector in (("bias", bias), ("norm_weight", norm_weight), ("norm_bias", norm_bias)):
        check_shape(name, vector, (weight.shape[0],), "[K]")
    check_same_device(tokens=tokens, scores=scores, positions=positions, survivors=survivors)
    (tokens,) = to_autocast(tokens)
    positions = positions.detach()
    kinds = weight.shape[0]
    limit = packing_limit(clusters, cluster_size)
    if kinds != KINDS:
        limit = f"{kinds} weights per neighbour; the kernel is written for {KINDS}"
    in_triton = runs_in_triton(tokens.device, tokens.dtype, limit)
    run = token_merge_op if in_triton else token_merge_reference
    with torch.autocast(tokens.device.type, enabled=False):
        place = positions.float() if in_triton else positions
        merged: Tensor = run(
            tokens, scores, place, survivors, clusters, cluster_size, weight, bias, norm_weight, norm_bias, eps
        )
        return merged
