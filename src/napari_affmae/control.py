"""The one way to pause, resume and stop a running job, from any thread.

A job generator receives a :class:`JobControl` and asks it once per step. Pausing blocks inside the job's own thread, so that
the generator's consumer needs to know nothing about it; stopping lets the job save a checkpoint and end by itself.
"""

from __future__ import annotations

import threading
import time


class JobControl:
    """Thread-safe pause and stop flags, shared by a job and whoever watches it."""

    def __init__(self) -> None:
        self._stops = 0
        self._run = threading.Event()
        self._run.set()

    def stop(self) -> None:
        """Ask the job to save what it has and end. Wakes a paused job; asking again leaves out what follows the last step."""
        self._stops += 1
        self._run.set()

    def pause(self) -> None:
        """Ask the job to hold still after the current step."""
        if not self._stops:
            self._run.clear()

    def resume(self) -> None:
        """Let a paused job go on."""
        self._run.set()

    @property
    def stop_requested(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stops > 0

    @property
    def stops(self) -> int:
        """How often :meth:`stop` was called."""
        return self._stops

    @property
    def paused(self) -> bool:
        """Whether the job is asked to hold still."""
        return not self._run.is_set()

    def wait_while_paused(self) -> float:
        """Block while paused and return the seconds spent waiting, for budgets that must not count them."""
        if self._run.is_set():
            return 0.0
        started = time.perf_counter()
        self._run.wait()
        return time.perf_counter() - started


class Stopped(Exception):
    """Raised and caught within a job: unwinds what is being worked on, so that nothing half-written stays."""


class LiveControl(JobControl):
    """Also says which request is the newest, so that work on an older one can end at once.

    Requests are numbered upwards. Only the newest counts: work on older ones is dropped, never queued.
    """

    def __init__(self, newest: int = 0) -> None:
        super().__init__()
        self._newest = newest

    def supersede(self, generation: int) -> None:
        """Say that there is a newer request; an older number than the newest one changes nothing."""
        self._newest = max(self._newest, generation)

    def stale(self, generation: int) -> bool:
        """Whether nobody waits for this request any more."""
        return self.stop_requested or generation < self._newest
