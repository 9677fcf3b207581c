"""Keep the chatter of file-format libraries away from the user.

Their warnings and log lines speak of chunks and tags. What matters to a user is said once, as the reason why a file was
skipped.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


def _pass_unless_quiet(record: logging.LogRecord) -> bool:
    return not getattr(_here, "quiet", False)


for _name in ("tifffile", "PIL"):
    logging.getLogger(_name).addFilter(_pass_unless_quiet)


class _WarningsOff:
    """Python keeps its warning filters per process, so the first thread in switches them and the last one out restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._catch = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._catch = warnings.catch_warnings()
                self._catch.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._catch.__exit__(None, None, None)


_warnings_off = _WarningsOff()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop log lines of tifffile and Pillow in this thread, and Python warnings, while a file is being read."""
    before = getattr(_here, "quiet", False)
    _here.quiet = True
    _warnings_off.enter()
    try:
        yield
    finally:
        _warnings_off.leave()
        _here.quiet = before
