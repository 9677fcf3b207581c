"""The one place where kernels are launched, or only built: the first step of a job builds all of its kernels side by side."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from ._kernel_error import launching

WORKERS = 8
"""Most kernels that are built at the same time."""

_ahead: ContextVar[CompileAhead | None] = ContextVar("affmae_kernels_compile_ahead", default=None)


def launch(name: str, device: torch.device, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on a device; inside :class:`CompileAhead`, have it built and launch nothing.

    Raises
    ------
    KernelError
        If it cannot be built or launched; ``name`` is the operator that it belongs to.
    """
    ahead = _ahead.get()
    if ahead is not None:
        ahead.submit(name, device, kernel, grid, arguments, constants)
        return
    with launching(name, device):
        kernel[grid](*arguments, **constants)


def index_memory(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory for indices that a kernel will write.

    Inside :class:`CompileAhead` none will, and the indices are zeros: torch's own operators may look them up.
    """
    make = torch.empty if _ahead.get() is None else torch.zeros
    return make(*shape, dtype=dtype, device=device)


class CompileAhead(AbstractContextManager["CompileAhead"]):
    """Inside, operators build their Triton kernels in parallel and compute nothing: their results are whatever memory held.

    For a dry run of work that comes again: the kernels of a training step take half a minute to build one after the other.
    Only the indices that a search returns are valid, see :func:`index_memory`. Backward passes count only if
    autograd works in the thread that asks (``torch.autograd.set_multithreading_enabled(False)``). Other threads go on
    computing. At the end all kernels are there, or the first failure is raised.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1), thread_name_prefix="kernels")
        self._builds: dict[Any, Future[None]] = {}

    def __enter__(self) -> Self:
        self._token = _ahead.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _ahead.reset(self._token)
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            for build in self._builds.values():
                build.result()

    def submit(
        self, name: str, device: torch.device, kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...],
        constants: dict[str, Any],
    ) -> None:  # fmt: skip
        """Have a kernel built for such arguments, once."""
        key = (kernel, device, tuple(_kind(argument) for argument in arguments), tuple(sorted(constants.items())))
        if key not in self._builds:
            run: Callable[..., Any] = kernel.warmup
            # The dtype stands for a tensor, as long as nothing but it matters: tensors must not live until a build is over.
            given = tuple(_stand_in(argument) for argument in arguments)
            self._builds[key] = self._pool.submit(_build, name, device, run, grid, given, constants)


def _build(
    name: str, device: torch.device, run: Callable[..., Any], grid: tuple[int, ...], arguments: tuple[Any, ...],
    constants: dict[str, Any],
) -> None:  # fmt: skip
    with launching(name, device):
        run(*arguments, grid=grid, **constants)


def _stand_in(argument: Any) -> Any:
    aligned = isinstance(argument, Tensor) and argument.data_ptr() % 16 == 0
    return argument.dtype if aligned else argument


def _kind(argument: Any) -> Any:
    """Return what Triton builds a kernel of its own for."""
    if isinstance(argument, Tensor):
        return argument.dtype, argument.data_ptr() % 16 == 0
    if isinstance(argument, int):
        return argument == 1, argument % 16 == 0, -(2**31) <= argument < 2**31
    return type(argument)
