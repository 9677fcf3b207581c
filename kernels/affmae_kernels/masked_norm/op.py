"""The public masked norm: what it computes, and the checks before it does."""

from __future__ import annotations

import torch
from torch import Tensor

from .._autocast import autocast_dtype
from .._check import check_same_device, check_shape
from .._dispatch import runs_in_triton
from .reference import masked_norm_gelu_reference
from .registered import masked_norm_gelu_op

WIDEST = 4096
"""Channels that one program normalises."""


def masked_norm_gelu(rows: Tensor, visible: Tensor | None, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    r"""Hide rows, normalise all of them, and apply GELU: what a patch embedding does between two convolutions.

    .. math:: z_i = \mathrm{GELU}(\mathrm{LN}(m_i x_i))

    A hidden row becomes the constant ``GELU(bias)``. The backward pass needs the rows as they came in, and nothing else.

    Parameters
    ----------
    rows
        ``[N, D]``, pixels with their channels last.
    visible
        bool ``[N]``, or None if nothing is hidden.
    weight, bias
        ``[D]``, of the LayerNorm.

    Returns
    -------
    Tensor
        ``[N, D]``, in autocast's dtype inside an autocast region, else in the dtype of the rows.

    Raises
    ------
    ValueError
        If shapes or devices do not fit.
    """
    check_shape("rows", rows, (None, None), "[N, D]")
    count, dim = rows.shape
    check_shape("weight", weight, (dim,), "[D]")
    check_shape("bias", bias, (dim,), "[D]")
    if visible is not None:
        check_shape("visible", visible, (count,), "[N]")
        check_same_device(rows=rows, visible=visible)
    dtype = autocast_dtype(rows)
    limit = None if dim <= WIDEST else f"{dim} channels, more than {WIDEST}"
    in_triton = runs_in_triton(rows.device, dtype, limit)
    run = masked_norm_gelu_op if in_triton else masked_norm_gelu_reference
    with torch.autocast(rows.device.type, enabled=False):
        normed: Tensor = run(rows, visible, weight, bias, eps, dtype)
        return normed
