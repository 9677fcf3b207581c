"""Time, memory, idle share, kernels and operations of a step."""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

CHUNKS = 7
STEPS = 5
"""Steps between two looks at the clock: as in training, nobody waits for a single one."""


def milliseconds(step: Callable[[], object], device: torch.device) -> float:
    """Return the median time of a step over a few runs of several steps; on a CPU, of single steps."""
    if device.type != "cuda":
        times = []
        for _ in range(CHUNKS):
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)
    times = []
    for _ in range(CHUNKS):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        before.record()
        for _ in range(STEPS):
            step()
        after.record()
        after.synchronize()
        times.append(before.elapsed_time(after) / STEPS)
    return statistics.median(times)


def latency(call: Callable[[], object]) -> float:
    """Return the median time in ms of single calls on a graphics card, each waited for."""
    times = []
    for _ in range(3 * CHUNKS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


class Trace(NamedTuple):
    """What a graphics card does while steps follow each other.

    Attributes
    ----------
    idle
        The part of the time, 0 to 1, in which it does nothing.
    kernels
        Time in ms per step of each kernel, the longest first; those that run side by side count both.
    """

    idle: float
    kernels: dict[str, float]


def trace(step: Callable[[], object]) -> Trace:
    """Watch a graphics card during a few steps."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
    events = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    spans = [(event.name, event.time_range.start, event.time_range.end) for event in events]
    return Trace(1 - covered([(start, end) for _, start, end in spans]), shares(spans, STEPS))


def shares(spans: list[tuple[str, float, float]], steps: int) -> dict[str, float]:
    """Return ms per step by name, the longest first, of spans (name, start, end in µs) of several steps."""
    times: defaultdict[str, float] = defaultdict(float)
    for name, start, end in spans:
        times[name] += (end - start) / 1e3 / steps
    return dict(sorted(times.items(), key=lambda entry: -entry[1]))


def covered(spans: list[tuple[float, float]]) -> float:
    """Return which part of the time from the first start to the last end lies inside any of the spans."""
    spans = sorted(spans)
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / (until - spans[0][0])


def operations(step: Callable[[], object]) -> int:
    """Return the floating-point operations of matrix products in a call, those of our operators included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def start_memory(device: torch.device) -> None:
    """Begin to watch the memory of a graphics card."""
    gc.collect()  # steps that were measured before
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float | None:
    """Return the most memory in GiB that torch reserved since :func:`start_memory`, recorded graphs included; None on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else None
