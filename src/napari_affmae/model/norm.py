"""LayerNorm that takes the residual sum before it along."""

from __future__ import annotations

from affmae_kernels import residual_norm
from torch import Tensor, nn

from .linear import Unbiased


class Norm(nn.LayerNorm):
    """LayerNorm over the last dimension; inside autocast its result has autocast's dtype, ready for the next linear layer."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise tokens ``[B, ..., D]``."""
        return residual_norm(tokens, None, self.weight, self.bias, self.eps)[1]

    def after(
        self, residual: Tensor, branch: Tensor, last: Unbiased, *, scale: Tensor | None = None, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Add a branch ``[B, ..., D]`` to the residual stream; return the sum and the normalised sum.

        Parameters
        ----------
        last
            The last layer of the branch, which left its bias to be added here.
        scale, dropout
            As in :func:`~affmae_kernels.residual_norm`.
        """
        return residual_norm(
            residual, branch, self.weight, self.bias, self.eps, branch_bias=last.bias, scale=scale, dropout=dropout
        )
