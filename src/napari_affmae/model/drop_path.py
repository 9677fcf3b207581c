"""DropPath: while training, the residual branches of some images are left out, more of them in deeper blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import Scales

MOST = 0.1
"""The probability rises linearly from 0 at the first block to this at the last."""


class DropPaths(nn.Module):
    """The factors of all branches of an encoder, drawn at once: one by one they are a hundred tiny pieces of work.

    Parameters
    ----------
    blocks
        Number of blocks, two branches each.
    """

    keep: Tensor

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        rates = torch.arange(blocks) * (MOST / max(1, blocks - 1))
        self.register_buffer("keep", (1 - rates).repeat_interleave(2).unsqueeze(1), persistent=False)

    def forward(self, batch: int) -> list[Scales]:
        """Return the factors of each block: 0 where a branch is dropped, else such that the mean stays."""
        if not self.training:
            return [(None, None)] * self.blocks
        keep = self.keep
        drawn = (torch.rand(2 * self.blocks, batch, device=keep.device) < keep) / keep
        factors = drawn.float().unbind(0)
        pairs = list(zip(factors[::2], factors[1::2], strict=True))
        return [(None, None), *pairs[1:]]
