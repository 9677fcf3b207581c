"""What can go wrong between a choice of kernels and their launch, and launching: each error names the way out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


class KernelChoiceError(ValueError):
    """``AFFMAE_KERNELS`` holds a word that is none of its three, or asks for Triton where Triton cannot run."""


class KernelError(RuntimeError):
    """A Triton kernel failed. Nothing was computed instead: set ``AFFMAE_KERNELS=pytorch`` to run the operators in PyTorch."""


@contextmanager
def launching(kernel: str, device: torch.device) -> Iterator[None]:
    """Make ``device`` the current one, and turn what goes wrong while ``kernel`` is built or launched into a KernelError.

    Triton launches on the current device, which need not be the one that holds the tensors.
    """
    from triton.errors import TritonError

    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    except (TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise KernelError(
            f"the Triton kernel of {kernel} failed ({type(error).__name__}: {error}); "
            "set AFFMAE_KERNELS=pytorch to run the operators in PyTorch, and please report this with the output of "
            "'napari-affmae doctor'"
        ) from error
