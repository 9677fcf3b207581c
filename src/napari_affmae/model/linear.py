"""Linear layers as the network uses them: products with gradients that cost little memory traffic."""

from __future__ import annotations

import affmae_kernels
from torch import Tensor, nn


class Linear(nn.Linear):
    """A linear layer; see :func:`affmae_kernels.linear`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[..., I]`` to ``[..., O]``."""
        return affmae_kernels.linear(tokens, self.weight, self.bias)


class Unbiased(nn.Linear):
    """The last linear layer of a residual branch: it multiplies, and the norm behind the residual sum adds its bias.

    There the gradient of the bias falls out of a pass that is made anyway.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Multiply ``[..., I]`` by the weights."""
        return affmae_kernels.linear(tokens, self.weight, None)
