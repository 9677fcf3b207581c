"""How many steps went wrong, counted where they are made."""

from __future__ import annotations

import torch
from torch import Tensor


class Health:
    """Counts steps without a finite loss or gradient, on the device, so that counting never waits for it."""

    def __init__(self, device: torch.device, total: int) -> None:
        self.total = total
        self._counts = torch.tensor([0.0, float(total)], device=device)  # in a row, altogether

    def note(self, left_out: Tensor) -> None:
        """Count one step: 1 if it was left out, else 0."""
        self._counts = torch.stack(((self._counts[0] + 1) * left_out, self._counts[1] + left_out))

    def read(self, measured: dict[str, Tensor]) -> tuple[dict[str, float], int, int]:
        """Wait for the device; return the losses as numbers, how many steps failed since the last look, and in a row."""
        *values, in_a_row, total = torch.cat((torch.stack(list(measured.values())), self._counts)).tolist()
        new, self.total = int(total) - self.total, int(total)
        return dict(zip(measured, values, strict=True)), new, int(in_a_row)
