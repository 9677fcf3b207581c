"""The public ReLU with dropout: what it computes, and the checks before it does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .._dispatch import runs_in_triton
from .registered import relu_dropout_op


def relu_dropout(hidden: Tensor, dropout: float) -> Tensor:
    """Return ``dropout(relu(hidden))``; the backward pass needs the result alone, where a zero says all there is to know.

    Parameters
    ----------
    hidden
        Any shape.
    dropout
        Probability of an element to be dropped, 0 to below 1; the others are scaled up. Drawn from torch's default generator of
        the device, in its own way by each implementation.

    Returns
    -------
    Tensor
        Of the shape and dtype of ``hidden``.

    Raises
    ------
    ValueError
        If the probability is out of range.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a probability from 0 to below 1, got {dropout}")
    if not runs_in_triton(hidden.device, hidden.dtype):
        return functional.dropout(functional.relu(hidden), dropout)
    seed = None
    if dropout > 0:
        seed = torch.randint(-(2**31), 2**31, (2,), device=hidden.device, dtype=torch.int32)
    dropped: Tensor = relu_dropout_op(hidden, seed, dropout)
    return dropped
