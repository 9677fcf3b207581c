"""Imports of large libraries that leave the other threads of the process, a window's above all, room to run."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def load_torch_library() -> None:
    """Load torch's largest library, as ``import torch`` will a little later, but without holding the interpreter meanwhile.

    That takes 0.1 s, and seconds where the file must be read from the disk first. Only Linux's loader is asked; if it cannot,
    importing torch says why.
    """
    spec = importlib.util.find_spec("torch")
    if not sys.platform.startswith("linux") or "torch" in sys.modules or spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        # A function of ctypes lets other threads run; ``ctypes.CDLL`` and ``import`` do not. Order and modes are torch's.
        load = ctypes.CDLL(None).dlopen
        load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
        for name, mode in (("libtorch_global_deps.so", os.RTLD_GLOBAL), ("libtorch_cpu.so", os.RTLD_LOCAL)):
            load(os.fsencode(Path(folder, "lib", name)), os.RTLD_NOW | mode)


@contextmanager
def without_collections() -> Iterator[None]:
    """Let no garbage be collected meanwhile, and take what was made for old afterwards.

    Torch and what it brings are some 400 000 objects that stay as long as the process. The collector goes through all objects
    whenever a quarter has been added, and keeps every thread waiting: three times, for up to 0.3 s each, where a worker of an
    open viewer imports torch. Old objects are collected as before, if seldom; nothing is left out for ever.
    """
    if not gc.isenabled() or gc.get_freeze_count():
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
