"""Get batches to the device in time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt
import torch
from torch import Tensor

Arrays = tuple[npt.NDArray[Any], ...]


class Batches:
    """Read batches, one ahead while a graphics card computes.

    On a CPU nothing is read ahead: the cores are busy with the step itself. A context manager; leaving it waits for the one
    read that may be under way.

    Parameters
    ----------
    read
        Returns the arrays of a step; depends on nothing but the step.
    device
        Where the batches go.
    """

    def __init__(self, read: Callable[[int], Arrays], device: torch.device) -> None:
        self._read = read
        self._device = device
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches") if device.type != "cpu" else None
        self._ahead: tuple[int, Future[tuple[Tensor, ...]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def get(self, step: int) -> tuple[Tensor, ...]:
        """Return the batch of a step on the device, and start to read the next one."""
        if self._pool is None:
            return self._host_tensors(step)
        ahead = self._ahead
        tensors = ahead[1].result() if ahead is not None and ahead[0] == step else self._host_tensors(step)
        self._ahead = (step + 1, self._pool.submit(self._host_tensors, step + 1))
        return tuple(tensor.to(self._device, non_blocking=True) for tensor in tensors)

    def _host_tensors(self, step: int) -> tuple[Tensor, ...]:
        tensors = tuple(torch.from_numpy(array) for array in self._read(step))
        return tuple(tensor.pin_memory() for tensor in tensors) if self._device.type == "cuda" else tensors
