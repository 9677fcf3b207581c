"""Time of a job: seconds of work, speed, and what is left."""

from __future__ import annotations

import time
from collections import deque

from ..events import Job, Progress

WINDOW = 10.0
"""Seconds over which speed is smoothed."""


class Clock:
    """Measures a job from now on.

    Parameters
    ----------
    elapsed
        Seconds of work that earlier runs of the job took.
    """

    def __init__(self, elapsed: float = 0.0) -> None:
        self._started = time.perf_counter() - elapsed
        self._marks: deque[tuple[float, int]] = deque([(elapsed, 0)])
        self._done = 0

    @property
    def elapsed(self) -> float:
        """Seconds of work, pauses not counted."""
        return time.perf_counter() - self._started

    def leave_out(self, seconds: float) -> None:
        """Do not count seconds that were spent paused."""
        self._started += seconds

    def count(self, items: int) -> None:
        """Note that so many more tiles are done."""
        self._done += items
        now = self.elapsed
        self._marks.append((now, self._done))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """Tiles per second over the last seconds; 0 before the first ones are done."""
        (first_time, first_done), (last_time, last_done) = self._marks[0], self._marks[-1]
        return (last_done - first_done) / (last_time - first_time) if last_time > first_time else 0.0

    def eta(self, items_left: float) -> float | None:
        """Return the expected seconds for the tiles that are left, or None while the speed is unknown."""
        return items_left / self.rate if self.rate > 0 else None

    def progress(self, job: Job, done: int, total: int) -> Progress:
        """Return the event of a job without training that is so far."""
        return Progress(
            job,
            step=done,
            total_steps=total,
            fraction=done / total,
            loss=0.0,
            losses={},
            lr=0.0,
            images_per_second=self.rate,
            eta_seconds=self.eta(total - done),
            elapsed_seconds=self.elapsed,
        )
