"""The five features of a relative position that biases and merge weights are linear in."""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 127.0
"""Offsets are clipped to ±127 patches, as in the paper's released model (a lookup table of that size)."""


def relative_features(offsets: Tensor) -> Tensor:
    """Return ``φ(dx, dy) = (dx, dy, r, dy / r, dx / r)`` with ``r = sqrt(dx² + dy²)``; the undefined parts at r = 0 are 0.

    Parameters
    ----------
    offsets
        ``[..., 2]``, key position minus query position, in patches.

    Returns
    -------
    Tensor
        ``[..., 5]`` of the same dtype.
    """
    offsets = offsets.clamp(-REACH, REACH)
    dx, dy = offsets.unbind(-1)
    r = torch.sqrt(dx * dx + dy * dy)
    safe = torch.where(r > 0, r, torch.ones_like(r))
    return torch.stack((dx, dy, r, dy / safe, dx / safe), dim=-1)
