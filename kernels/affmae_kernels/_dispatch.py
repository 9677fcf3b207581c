"""Which implementation of each operator runs, and why.

PyTorch runs everywhere. Triton's kernels run on CUDA devices, except in float64 and beyond the limits of a kernel (of sites per
point, clusters per token, channels), unless ``AFFMAE_KERNELS=pytorch`` says otherwise. This is the one place to ask: the
``doctor`` command, the log of a run and the dock all print what it reports, so that nobody has to guess.
Nothing falls back after the choice is made: a kernel that fails says so (see ``_kernel_error``).
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from ._kernel_error import KernelChoiceError

OPERATORS = (
    "nearest",
    "cluster_attention",
    "token_merge",
    "deformable_attention",
    "residual_norm",
    "masked_norm_gelu",
    "relu_dropout",
    "linear",
    "feed_forward",
)

VARIABLE = "AFFMAE_KERNELS"

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

LEAST_CAPABILITY = (8, 0)
"""Ampere: the first generation with bfloat16 matrix units, and the oldest that Triton supports."""

TRITON_INSTALLED = importlib.util.find_spec("triton") is not None


@dataclass(frozen=True)
class OperatorReport:
    """One line of :func:`report`: the operator, the implementation that runs, and the reason."""

    operator: str
    implementation: str
    why: str


def runs_in_triton(device: torch.device, dtype: torch.dtype, limit: str | None = None) -> bool:
    """Decide whether Triton's kernels run, else PyTorch does.

    Parameters
    ----------
    device, dtype
        Of the operator's largest argument.
    limit
        What the kernels cannot do of what is asked ("17 sites per point; the kernel keeps at most 8"), or None.

    Raises
    ------
    KernelChoiceError
        If ``AFFMAE_KERNELS`` holds another word, or asks for Triton where it cannot run.
    """
    wish = _wish()
    if wish == "pytorch":
        return False
    obstacle = limit or _obstacle(device, dtype, wish)
    _insist(wish, obstacle)
    return obstacle is None


def report(device: torch.device | str | None = None) -> list[OperatorReport]:
    """Return which implementation runs for each operator in single or half precision, within the limits of its kernel.

    Parameters
    ----------
    device
        Where tensors will be; None stands for CUDA if there is a device, else the CPU.

    Raises
    ------
    KernelChoiceError
        If ``AFFMAE_KERNELS`` holds another word than auto, pytorch and triton, or asks for Triton where it cannot run.
    """
    place = _place(device)
    wish = _wish()
    obstacle = None if wish == "pytorch" else _obstacle(place, torch.float32, wish)
    _insist(wish, obstacle)
    if wish == "pytorch":
        implementation, why = "pytorch", f"{VARIABLE}=pytorch"
    elif obstacle is not None:
        implementation, why = "pytorch", obstacle
    else:
        where = torch.cuda.get_device_name(place) if place.type == "cuda" else "the interpreter"
        implementation, why = "triton", f"{where} with {_triton_name()}"
    return [OperatorReport(name, implementation, why) for name in OPERATORS]


def describe(device: torch.device | str | None = None) -> str:
    """Return one sentence for people."""
    place = _place(device)
    first = report(place)[0]  # what decides is the same for all
    if place.type != "cuda" and first.implementation == "pytorch" and _wish() == "auto":
        return f"operators run in PyTorch, as always on {'a CPU' if place.type == 'cpu' else place.type}"
    beyond = "; in pytorch what is beyond a kernel's limits" if first.implementation == "triton" else ""
    return f"operators run in {first.implementation}: {first.why}{beyond}"


def interpreted() -> bool:
    """Return whether Triton's interpreter stands in for a GPU, as in the tests: it runs kernels on the CPU, slowly."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _place(device: torch.device | str | None) -> torch.device:
    return torch.device(device) if device is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _wish() -> str:
    wish = os.environ.get(VARIABLE, "auto")
    if wish not in ("auto", "pytorch", "triton"):
        raise KernelChoiceError(f"{VARIABLE} must be auto, pytorch or triton, got {wish!r}")
    return wish


def _insist(wish: str, obstacle: str | None) -> None:
    """Raise if Triton was asked for by name, and something is in its way."""
    if wish == "triton" and obstacle is not None:
        raise KernelChoiceError(f"{VARIABLE}=triton, but Triton cannot do this: {obstacle}; use auto or pytorch")


def _obstacle(device: torch.device, dtype: torch.dtype, wish: str) -> str | None:
    """Return why Triton cannot run here, or None. Without caches and clever calls: ``torch.compile`` traces through it."""
    if dtype not in DTYPES:
        return f"the kernels take float32, bfloat16 and float16, not {dtype}"
    stands_in = device.type == "cpu" and wish == "triton" and interpreted()
    if not stands_in:
        if device.type != "cuda":
            return f"the kernels need a CUDA device, the tensors are on {device.type}"
        if torch.version.hip is not None:
            return "the kernels are not tested on ROCm"
        card = torch.cuda.get_device_properties(device)  # unlike get_device_capability, a constant to torch.compile
        capability = (card.major, card.minor)
        if capability < LEAST_CAPABILITY:
            return f"the kernels need compute capability {LEAST_CAPABILITY} or newer, this GPU has {capability}"
    return None if TRITON_INSTALLED else "Triton is not installed: pip install triton (triton-windows on Windows)"


def _triton_name() -> str:
    for name in ("triton", "triton-windows"):
        try:
            return f"Triton {version(name)}"
        except PackageNotFoundError:
            continue
    return "Triton"
