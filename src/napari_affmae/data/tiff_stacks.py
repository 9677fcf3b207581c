"""TIFF stacks that were read lately: where their pages are takes longer to find out than to read one, if there are many."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TypeAlias

from .tiff_file import TiffFile

MOST = 4
"""Stacks that are remembered: about 6 KB a page."""

_SETTLED = 2.0
"""Seconds after which a change of a file shows in its time, whatever the file system."""

_Identity: TypeAlias = tuple[str, int, int, int]


class _Stack(TiffFile):
    """A TIFF file that is remembered when it is closed, without its handle; it belongs to one reader at a time."""

    def __init__(self, path: Path) -> None:
        self.identity = _identity(path)
        super().__init__(path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        settled = time.time() - self.identity[-1] / 1e9 > _SETTLED
        if error is None and self.pages > 1 and settled:
            with _lock:
                _known[self.identity] = self
                while len(_known) > MOST:
                    _known.popitem(last=False)


_known: OrderedDict[_Identity, _Stack] = OrderedDict()
_lock = Lock()


def open_tiff(path: Path) -> TiffFile:
    """Open a TIFF file, whose pages are known already if it is a stack that was read lately and has not changed since."""
    with _lock:
        known = _known.pop(_identity(path), None)
    if known is None:
        return _Stack(path)
    known.reopen()
    return known


def _identity(path: Path) -> _Identity:
    """Return what changes when a file does."""
    status = os.stat(path)
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns
