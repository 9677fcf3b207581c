"""How many directions of feature space a set of tokens really uses."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def effective_rank(tokens: Tensor) -> tuple[float, float]:
    """Return the effective rank of token features and the same divided by ``min(n, D)``.

    The tokens are centred; the singular values, scaled to sum 1, are read as a distribution, and the rank is the exponential of
    its entropy. Source: O. Roy and M. Vetterli, "The effective rank" (EUSIPCO 2007); AFFMAE, figure 5.

    Parameters
    ----------
    tokens
        ``[n, D]``.

    Returns
    -------
    rank
        1 to ``min(n, D)``; 0 if all tokens are alike.
    normalised
        0 to 1.

    Raises
    ------
    ValueError
        If ``tokens`` is not a non-empty matrix.
    """
    if tokens.dim() != 2 or 0 in tokens.shape:
        raise ValueError(f"tokens must be [n, D] with at least one token, got {list(tokens.shape)}")
    tokens = tokens.double()
    values = torch.linalg.svdvals(tokens - tokens.mean(dim=0))
    total = values.sum()
    if total <= 1e-12 * max(1.0, float(tokens.abs().max())):
        return 0.0, 0.0
    share = values / total
    rank = float(torch.exp(-torch.special.xlogy(share, share).sum()))
    return rank, rank / min(tokens.shape)
