"""Imports of large libraries that leave the other threads of the process, a window's above all, room to run."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Let no garbage be collected meanwhile, and take what was made for old afterwards.

    Torch and what it brings are some 400 000 objects that stay as long as the process. The collector goes through all objects
    whenever a quarter has been added, and keeps every thread waiting: three times, for up to 0.3 s each, where a worker of an
    open viewer imports torch. Old objects are collected as before, if seldom; nothing is left out for ever. What somebody froze
    before counts as old again.
    """
    if not gc.isenabled():
        # Somebody has settled this for the whole process.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        # Together they put everything into the oldest generation without looking at it.
        gc.freeze()
        gc.unfreeze()
        gc.enable()
