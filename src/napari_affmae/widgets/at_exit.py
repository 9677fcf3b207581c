"""What is still to be done when a script ends with the window open."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from weakref import WeakMethod


def before_threads_end(method: Callable[[], object]) -> None:
    """Call a bound method when the interpreter ends, unless its object is gone by then, which is not kept alive by this.

    ``atexit`` alone comes too late: zarr writes in threads, and by then none takes any more work.
    """
    weak = WeakMethod(method)

    def call() -> None:
        found = weak()
        if found is not None:
            found()

    # Python has this for its own thread pools, and no public name for it.
    getattr(threading, "_register_atexit", atexit.register)(call)
