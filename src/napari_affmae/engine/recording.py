"""Work on a graphics card that is recorded once, as a CUDA graph, and then replayed.

A step of small tensors is thousands of launches. Python needs longer to make them than the card to work them off, and a viewer
in the same process would wait for the interpreter meanwhile; a replay is one call.
"""

from __future__ import annotations

import weakref
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


class Repeated(Generic[Result]):
    """A function that is called again and again with tensors of the same shapes.

    On a graphics card, if :func:`can_record` agrees, the first call builds all kernels side by side and computes, the second
    records, and from then on calls are replays. Elsewhere every call is a call. Other shapes start it over.

    Parameters
    ----------
    function
        Depends on its arguments, on tensors that stay where they are (parameters), and on torch's default generator alone.
    dry_run
        Launches the same kernels on the same shapes, without effects: its numbers mean nothing.
    device
        Where the tensors are.
    """

    def __init__(
        self, function: Callable[[Tensors], Result], dry_run: Callable[[Tensors], object], device: torch.device
    ) -> None:
        self._function = function
        self._dry_run = dry_run
        self._device = device
        self._recordable = can_record(device)
        self._shapes: list[tuple[torch.Size, torch.dtype]] | None = None
        self._recording: _Recording[Result] | None = None

    def __call__(self, arguments: Tensors) -> Result:
        """Call the function; where it is recorded, the next call overwrites the result."""
        if not self._recordable:
            return self._function(arguments)
        shapes = [(argument.shape, argument.dtype) for argument in arguments]
        if shapes != self._shapes:
            self.forget()
            self._build(arguments)
            result = self._function(arguments)
            self._shapes = shapes
            return result
        if self._recording is None:
            self._recording = _Recording(self._function, arguments)
        return self._recording.replay(arguments)

    def _build(self, arguments: Tensors) -> None:
        # What is drawn in here must not shift what the call itself draws, and backward passes must work in this thread.
        with (
            torch.random.fork_rng(devices=[self._device]),
            torch.autograd.set_multithreading_enabled(False),
            affmae_kernels.CompileAhead(),
        ):
            self._dry_run(arguments)

    def forget(self) -> None:
        """Give back what was recorded, and its memory: after a failure, or when the function has changed."""
        if self._recording is not None:
            self._recording.finish()
        self._shapes = self._recording = None


class _Streams:
    """Streams to record on, each for one recording at a time.

    What is recorded keeps the address of cuBLAS' workspace, of which torch has one for each stream. By default all recordings
    share a stream, and in newer versions of torch the first that goes takes the workspace of the others with it: their replays
    write into memory that is nobody's, or somebody else's (pytorch issue 193402). torch hands out 32 streams in turn, so that
    they are kept and reused.
    """

    def __init__(self) -> None:
        self._idle: dict[torch.device, list[torch.cuda.Stream]] = {}

    def take(self, device: torch.device) -> torch.cuda.Stream:
        """Return a stream that no living recording was made on."""
        try:
            return self._idle[device].pop()
        except (KeyError, IndexError):
            return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def give_back(self, stream: torch.cuda.Stream) -> None:
        """Let the next recording have it."""
        self._idle.setdefault(stream.device, []).append(stream)


_streams = _Streams()


class _Recording(Generic[Result]):
    """One recording; it keeps the tensors that it reads and writes."""

    def __init__(self, function: Callable[[Tensors], Result], arguments: Tensors) -> None:
        self._arguments = tuple(argument.clone() for argument in arguments)
        self._graph = torch.cuda.CUDAGraph()
        stream = _streams.take(arguments[0].device)
        weakref.finalize(self, _streams.give_back, stream)
        # Other threads may go on with what a recording must not contain, such as making room for the next batch.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._result = function(self._arguments)

    def finish(self) -> None:
        """Wait for the last replay: the card may still be at it, and what it uses is about to go."""
        torch.cuda.synchronize(self._arguments[0].device)

    def replay(self, arguments: Tensors) -> Result:
        for mine, given in zip(self._arguments, arguments, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result
