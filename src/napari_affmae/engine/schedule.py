"""How much of a budget is used, and the learning rate that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import Budget

LEAST = 0.01
"""Learning rate at the very start and the very end, over its peak."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine, along the used part of a budget of steps, epochs or minutes.

    Attributes
    ----------
    budget
        When to end.
    warmup
        Part of the budget over which the learning rate rises.
    steps_per_epoch
        Optimizer steps that cover every image once; turns epochs into steps.
    """

    budget: Budget
    warmup: float
    steps_per_epoch: float

    @property
    def total_steps(self) -> int | None:
        """Number of steps, or None if minutes decide."""
        if self.budget.steps is not None:
            return self.budget.steps
        if self.budget.epochs is not None:
            return max(1, math.ceil(self.budget.epochs * self.steps_per_epoch))
        return None

    def fraction(self, step: int, elapsed: float) -> float:
        """Return the used part of the budget, 0 to 1, after ``step`` steps and ``elapsed`` seconds."""
        if self.total_steps is not None:
            return min(1.0, step / self.total_steps)
        if self.budget.minutes is None:
            raise ValueError("a budget without steps or epochs has minutes")
        return min(1.0, elapsed / (60 * self.budget.minutes))

    def factor(self, fraction: float) -> float:
        """Return the learning rate over its peak, :data:`LEAST` to 1, for a used part of the budget."""
        if fraction < self.warmup:
            return LEAST + (1 - LEAST) * fraction / self.warmup
        along = (fraction - self.warmup) / (1 - self.warmup)
        return LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * along))
