"""Which implementation of each operator runs, and why.

Triton's kernels run on CUDA devices, PyTorch everywhere else and in float64. ``AFFMAE_KERNELS=pytorch`` or ``=triton`` overrides
that. It is the one place to ask: the ``doctor`` command, the log of a run and the dock all print what it reports, so that nobody
has to guess. Nothing falls back after the choice is made: a kernel that fails says so (see ``_kernel_error``).
"""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass
from typing import Literal

import torch

OPERATORS = ("nearest", "cluster_attention", "token_merge", "deformable_attention")

VARIABLE = "AFFMAE_KERNELS"

Implementation = Literal["pytorch", "triton"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

LEAST_CAPABILITY = (8, 0)
"""Ampere: the first generation with bfloat16 matrix units, and the oldest that Triton supports."""


@dataclass(frozen=True)
class OperatorReport:
    """One line of :func:`report`: the operator, the implementation that runs, and the reason."""

    operator: str
    implementation: str
    why: str


def choose(device: torch.device, dtype: torch.dtype, limit: str | None = None) -> tuple[Implementation, str]:
    """Decide which implementation runs, and say why.

    Parameters
    ----------
    device, dtype
        Of the operator's largest argument.
    limit
        What the kernels cannot do of what is asked ("17 neighbours; the kernel keeps at most 8"), or None.

    Raises
    ------
    ValueError
        If ``AFFMAE_KERNELS`` holds another word, or asks for Triton where it cannot run.
    """
    wish = os.environ.get(VARIABLE, "auto")
    if wish not in ("auto", "pytorch", "triton"):
        raise ValueError(f"{VARIABLE} must be auto, pytorch or triton, got {wish!r}")
    if wish == "pytorch":
        return "pytorch", f"{VARIABLE}=pytorch"
    obstacle = limit or _dtype_obstacle(dtype) or _device_obstacle(device, wish == "triton")
    if obstacle is None:
        return "triton", f"{VARIABLE}=triton" if wish == "triton" else f"{_device_name(device)} with {_triton_name()}"
    if wish == "triton":
        raise ValueError(f"{VARIABLE}=triton, but Triton cannot run this operator: {obstacle}; use auto or pytorch")
    return "pytorch", obstacle


def report(device: torch.device | str | None = None) -> list[OperatorReport]:
    """Return which implementation runs for each operator in single or half precision.

    Parameters
    ----------
    device
        Where tensors will be; None stands for CUDA if there is a device, else the CPU.
    """
    place = torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    implementation, why = choose(place, torch.float32)
    return [OperatorReport(name, implementation, why) for name in OPERATORS]


def describe(device: torch.device | str | None = None) -> str:
    """Return one sentence for people."""
    entries = report(device)
    names = sorted({entry.implementation for entry in entries})
    return f"operators run in {' and '.join(names)}: {entries[0].why}"


def interpreted() -> bool:
    """Return whether Triton's interpreter stands in for a GPU, as in the tests: it runs kernels on the CPU, slowly."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _dtype_obstacle(dtype: torch.dtype) -> str | None:
    if dtype in DTYPES:
        return None
    return f"the kernels take float32, bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"


def _device_obstacle(device: torch.device, wanted: bool) -> str | None:
    if device.type == "cpu" and wanted and interpreted():
        return None if _triton_installed() else "Triton is not installed"
    if device.type != "cuda":
        return f"the kernels need a CUDA device, the tensors are on {device.type}"
    if torch.version.hip is not None:
        return "the kernels are not tested on ROCm"
    if _capability(device.index or 0) < LEAST_CAPABILITY:
        have, need = (".".join(map(str, numbers)) for numbers in (_capability(device.index or 0), LEAST_CAPABILITY))
        return f"the kernels need a GPU of compute capability {need} or newer, this one has {have}"
    return None if _triton_installed() else "Triton is not installed: pip install triton (triton-windows on Windows)"


@functools.cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


@functools.cache
def _triton_name() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("triton", "triton-windows"):
        try:
            return f"Triton {version(name)}"
        except PackageNotFoundError:
            continue
    return "Triton"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)
