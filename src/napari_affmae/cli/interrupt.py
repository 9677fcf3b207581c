"""Ctrl-C: the first asks the job to save and end, the second ends at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..control import JobControl


class Interrupted(Exception):
    """The user stopped the job; what it had is saved. Not an error, and so not called one."""


@contextmanager
def stop_on_interrupt(control: JobControl) -> Iterator[None]:
    """While inside, turn the first SIGINT into ``control.stop()`` and the second into ``KeyboardInterrupt``."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if control.stop_requested:
            raise KeyboardInterrupt
        control.stop()
        print("Stopping after this step; press Ctrl-C again to quit at once.", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
