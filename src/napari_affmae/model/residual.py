"""The residual stream between two norms: tokens, and a branch that the next norm adds on its way."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .linear import Unbiased
from .norm import Norm


@dataclass(frozen=True)
class Branch:
    """What is still to be added to the stream.

    Attributes
    ----------
    values
        ``[B, n, D]``, without the bias of the layer that made them.
    last
        That layer.
    scale
        float32 ``[B]``, the factor of each image (DropPath), or None.
    """

    values: Tensor
    last: Unbiased
    scale: Tensor | None


@dataclass(frozen=True)
class Residual:
    """Tokens ``[B, n, D]`` and, behind a block, its last branch: the sum is made together with the norm that follows."""

    tokens: Tensor
    branch: Branch | None = None

    def normed(self, norm: Norm) -> tuple[Tensor, Tensor]:
        """Return the sum, and what a norm makes of it."""
        if self.branch is None:
            return self.tokens, norm(self.tokens)
        return norm.after(self.tokens, self.branch.values, self.branch.last, scale=self.branch.scale)

    def added(self) -> Tensor:
        """Return the sum where no norm follows."""
        if self.branch is None:
            return self.tokens
        values = self.branch.values + self.branch.last.bias.to(self.branch.values.dtype)
        if self.branch.scale is not None:
            values = values * self.branch.scale.view(-1, 1, 1).to(values.dtype)
        return self.tokens + values
