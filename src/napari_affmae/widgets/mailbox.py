"""Events on their way from the worker thread to the main thread, gathered into batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..events import Preview

SECONDS_BETWEEN_BATCHES = 0.1


class Mailbox:
    """Holds events until they are fetched, at least ``interval`` seconds after those before them.

    Every event arrives, in order, but for previews: of those only the last one of a batch does.

    Parameters
    ----------
    interval
        Seconds between two batches.
    clock
        Seconds that have passed.
    """

    def __init__(self, interval: float = SECONDS_BETWEEN_BATCHES, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[object] = []
        self._fetched_at = -float("inf")
        self._called = False

    def put(self, event: object) -> bool:
        """Add an event; return whether to call for it to be fetched now. Nobody is called twice for the same batch."""
        with self._lock:
            if isinstance(event, Preview):
                self._waiting = [other for other in self._waiting if not isinstance(other, Preview)]
            self._waiting.append(event)
            call = self._due and not self._called
            self._called = self._called or call
            return call

    def fetch(self, *, early: bool = False) -> tuple[object, ...]:
        """Take what waits, if its time has come or ``early``; else nothing."""
        with self._lock:
            if not self._waiting or not (early or self._due):
                return ()
            batch, self._waiting = tuple(self._waiting), []
            self._fetched_at = self._clock()
            self._called = False
            return batch

    @property
    def _due(self) -> bool:
        return self._clock() - self._fetched_at >= self._interval
