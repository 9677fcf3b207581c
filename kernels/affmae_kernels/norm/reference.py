"""Residual sum and LayerNorm in plain PyTorch. Float64-capable: the truth for the kernel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def residual_norm_reference(
    residual: Tensor,
    branch: Tensor | None,
    branch_bias: Tensor | None,
    scale: Tensor | None,
    dropout: float,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Compute what :func:`~affmae_kernels.residual_norm` documents; the normed tokens are of ``dtype``."""
    wide = torch.float64 if residual.dtype == torch.float64 else torch.float32
    total = residual
    if branch is not None:
        added = branch.to(wide)
        if branch_bias is not None:
            added = added + branch_bias.to(wide)
        if scale is not None:
            added = added * scale.to(wide).view(-1, *[1] * (added.dim() - 1))
        total = (residual.to(wide) + functional.dropout(added, dropout)).to(residual.dtype)
    normed = functional.layer_norm(total.to(wide), (total.shape[-1],), weight.to(wide), bias.to(wide), eps)
    return total, normed.to(dtype)
