"""Work on a graphics card that is recorded once, as a CUDA graph, and then replayed.

A step of small tensors is thousands of launches. Python needs longer to make them than the card to work them off, and a viewer
in the same process would wait for the interpreter meanwhile; a replay is one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import affmae_kernels
import torch
from torch import Tensor

from .device import mixed_precision

Tensors = tuple[Tensor, ...]
Result = TypeVar("Result")


def can_record(device: torch.device) -> bool:
    """Return whether work on a device can be recorded: with the Triton operators it never waits for the host.

    The PyTorch operators look at intermediate results, and float16 training decides on the host whether to skip a step.
    """
    if device.type != "cuda" or mixed_precision(device) != "bf16-mixed":
        return False
    return all(entry.implementation == "triton" for entry in affmae_kernels.report(device))


class Recording(Generic[Result]):
    """A function of tensors of fixed shapes, recorded for replays.

    Parameters
    ----------
    function
        Depends on its arguments, on tensors that stay where they are (parameters), and on torch's default generator alone. It
        has run before, on arguments of these shapes, so that nothing is set up while it is recorded.
    arguments
        An example. Recording does not compute anything.

    Raises
    ------
    torch.OutOfMemoryError
        If the memory that a run needs is not there.
    """

    def __init__(self, function: Callable[[Tensors], Result], arguments: Tensors) -> None:
        self._arguments = tuple(argument.clone() for argument in arguments)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on with what a recording must not contain, such as making room for the next batch.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function(self._arguments)

    def fits(self, arguments: Tensors) -> bool:
        """Return whether arguments have the shapes and dtypes of the example."""
        return [(a.shape, a.dtype) for a in arguments] == [(a.shape, a.dtype) for a in self._arguments]

    def replay(self, arguments: Tensors) -> Result:
        """Run the function on other arguments; the result is overwritten by the next replay."""
        for mine, given in zip(self._arguments, arguments, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result
