"""The loss over the steps of a run, short enough to travel with the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from ..curve_ends import curve_ends

MOST_POINTS = 128


class Curve:
    """Means of the loss over equally many readings each; their number doubles when there are too many points."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._each = 1
        self._sum = 0.0
        self._count = 0

    @classmethod
    def resumed(cls, record: Mapping[str, Any] | None) -> Self:
        """Go on with what :meth:`record` returned, if it did."""
        curve = cls()
        if record is not None:
            curve._steps, curve._losses = list(record["steps"]), list(record["losses"])
            curve._each = int(record["readings_per_point"])
            curve._sum, curve._count = record.get("rest", (0.0, 0))
        return curve

    def add(self, step: int, loss: float) -> None:
        """Count a reading; one that is not finite is left out."""
        if not math.isfinite(loss):
            return
        self._sum += loss
        self._count += 1
        if self._count < self._each:
            return
        self._steps.append(step)
        self._losses.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._steps) >= MOST_POINTS:
            pairs = zip(self._losses[::2], self._losses[1::2], strict=True)
            self._steps, self._losses = self._steps[1::2], [(first + second) / 2 for first, second in pairs]
            self._each *= 2

    def ends(self) -> dict[str, float]:
        """Return the mean loss at both ends, as a card shows them; empty before there is one."""
        losses = self.record()["losses"]
        return dict(zip(("mean_loss_first", "mean_loss_last"), curve_ends(losses), strict=True)) if losses else {}

    def record(self) -> dict[str, Any]:
        """Return the curve as JSON values: at each of ``steps`` the mean of the readings since the step before.

        The ``rest`` is the sum and the number of those that no point stands for yet.
        """
        losses = [float(f"{loss:.4g}") for loss in self._losses]
        rest = [self._sum, self._count]
        return {"steps": list(self._steps), "losses": losses, "readings_per_point": self._each, "rest": rest}
