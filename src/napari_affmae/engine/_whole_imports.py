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

    That takes 0.2 s, and seconds where the file must be read from the disk first. Only Linux's loader is asked; if it cannot,
    importing torch says why.
    """
    if not sys.platform.startswith("linux") or "torch" in sys.modules:
        return
    spec = importlib.util.find_spec("torch")
    folders = spec.submodule_search_locations if spec is not None else None
    # A function of ctypes lets other threads run; ``ctypes.CDLL`` and ``import`` do not.
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    for folder in folders or ():
        # Torch's own order and modes; a CUDA build has the same two.
        for name, mode in (("libtorch_global_deps.so", os.RTLD_GLOBAL), ("libtorch_cpu.so", os.RTLD_LOCAL)):
            load(os.fsencode(Path(folder, "lib", name)), os.RTLD_NOW | mode)


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
