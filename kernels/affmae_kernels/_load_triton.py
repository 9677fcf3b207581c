"""Load Triton's native library in isolation, before torch does it the dangerous way.

Triton links LLVM statically and lets its symbols be replaced by equal ones that the process holds already. Mesa's OpenGL
drivers (llvmpipe and radeonsi) bring an LLVM of their own into the process when a window is first drawn. Then
``import triton``, which ``torch.optim`` does by itself, mixes two LLVMs and the process dies. ``RTLD_DEEPBIND`` makes the
library prefer its own symbols. The flag counts at the first load only: later imports of Triton find the library already there
and use it, and nothing but this one library is affected.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MODULE = "triton._C.libtriton"


@dataclass(frozen=True)
class TritonGuard:
    """What :func:`load_triton` found and did.

    Attributes
    ----------
    state
        ``"isolated"``: loaded by us, safe beside any OpenGL driver. ``"absent"``: Triton is not installed. ``"not needed"``:
        this system's loader keeps libraries apart anyway. ``"too late"``: somebody imported Triton before us.
        ``"failed"``: the library is there but cannot be loaded.
    detail
        One sentence for people.
    """

    state: Literal["isolated", "absent", "not needed", "too late", "failed"]
    detail: str


_lock = threading.Lock()
_guard: TritonGuard | None = None


def load_triton() -> TritonGuard:
    """Load Triton's native library so that its LLVM stays apart; do nothing at the second call.

    Never raises: whoever needs Triton meets its own error when importing it, and ``napari-affmae doctor`` shows the state.
    """
    global _guard
    with _lock:
        if _guard is None:
            _guard = _load()
        return _guard


def _load() -> TritonGuard:
    if not sys.platform.startswith("linux") or not hasattr(os, "RTLD_DEEPBIND"):
        return TritonGuard("not needed", f"{sys.platform} does not mix the symbols of two libraries")
    if MODULE in sys.modules:
        return TritonGuard(
            "too late", "Triton was imported before affmae_kernels; if opening a viewer crashes, import us first"
        )
    library = _find_library()
    if library is None:
        return TritonGuard("absent", "Triton is not installed; operators run in PyTorch")
    try:
        ctypes.CDLL(str(library), mode=os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
    except OSError as error:
        return TritonGuard("failed", f"{library} cannot be loaded ({error}); reinstall triton")
    return TritonGuard("isolated", f"{library.name} is loaded with symbols of its own, safe beside any OpenGL driver")


def _find_library() -> Path | None:
    """Return the path of Triton's extension module without importing the package, or None."""
    spec = importlib.util.find_spec("triton")
    for folder in (spec and spec.submodule_search_locations) or ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            library = Path(folder, "_C", f"libtriton{suffix}")
            if library.is_file():
                return library
    return None
