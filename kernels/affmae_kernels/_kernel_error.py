"""The error of a kernel that could not be built or launched: it names the kernel and the way out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


class KernelError(RuntimeError):
    """A Triton kernel failed. Nothing was computed instead: set ``AFFMAE_KERNELS=pytorch`` to run the operators in PyTorch."""


@contextmanager
def naming(kernel: str) -> Iterator[None]:
    """Turn whatever goes wrong while ``kernel`` is built or launched into a :class:`KernelError`."""
    from triton.errors import TritonError

    try:
        yield
    except (TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise KernelError(
            f"the Triton kernel of {kernel} failed ({type(error).__name__}: {error}); "
            "set AFFMAE_KERNELS=pytorch to run the operators in PyTorch, and please report this with the output of "
            "'napari-affmae doctor'"
        ) from error
