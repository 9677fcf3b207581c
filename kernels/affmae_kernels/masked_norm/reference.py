"""Hiding, LayerNorm and GELU in plain PyTorch. Float64-capable: the truth for the kernel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def masked_norm_gelu_reference(
    rows: Tensor, visible: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """Compute what :func:`~affmae_kernels.masked_norm_gelu` documents; the result is of ``dtype``."""
    wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
    shown = rows.to(wide)
    if visible is not None:
        shown = shown * visible.unsqueeze(-1)
    return functional.gelu(functional.layer_norm(shown, (rows.shape[-1],), weight.to(wide), bias.to(wide), eps)).to(dtype)
