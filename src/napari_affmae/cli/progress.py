"""What a job says, on stderr: a bar on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ..control import JobControl
from ..events import Done, Event, ImageBegun, Notice, PartBegun, Score, Started
from ..events import Progress as Step
from ..words import NOT_FITTED
from .interrupt import Interrupted, stop_on_interrupt

_LINES_APART = 10.0
"""Least seconds between two progress lines where stderr is no terminal."""


def watch(events: Iterable[Event], control: JobControl, stream: TextIO | None = None) -> Done:
    """Run a job to its end, report on stderr, and return its last event.

    Parameters
    ----------
    events
        The job.
    control
        The job's control; Ctrl-C stops it.
    stream
        Where to report; None is stderr.

    Raises
    ------
    Interrupted
        If Ctrl-C stopped the job; by then it has saved what it had.
    """
    done = None
    with stop_on_interrupt(control), reporting(stream) as tell:
        for event in events:
            tell(event)
            if isinstance(event, Done):
                done = event
    if done is None or (done.stopped and control.stop_requested):
        where = f"; saved in {done.path}, --resume goes on" if done is not None and done.path is not None else ""
        if done is not None and done.summary.get("classes_from") == NOT_FITTED:
            where += ". No readout was fitted to the strokes: --resume does it; until then classes are rough, or as before"
        raise Interrupted(f"stopped on request{where}")
    return done


@contextmanager
def reporting(stream: TextIO | None = None) -> Iterator[Callable[[object], None]]:
    """Report events of one job or of several on a stream, by default stderr; gives a function that takes each event."""
    with _reporter(stream) as reporter:
        yield _Teller(reporter)


@contextmanager
def counting(what: str, stream: TextIO | None = None) -> Iterator[Callable[[int, int], None]]:
    """Report work that is counted; gives a function to call as ``on_progress(done, total)``."""
    with _reporter(stream) as reporter:
        yield lambda done, total: reporter.advance(what, done / max(total, 1), f"image {done}/{total}")


@contextmanager
def _reporter(stream: TextIO | None) -> Iterator[_Bar | _Lines]:
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield _Lines(stream)
        return
    with _Bar(stream) as bar:
        yield bar


class _Teller:
    """Puts events into lines and progress; what a job runs on is said before its first image."""

    def __init__(self, reporter: _Bar | _Lines) -> None:
        self._reporter = reporter
        self._started = False
        self._held = ""

    def __call__(self, event: object) -> None:
        if isinstance(event, Step):
            self._reporter.advance(event.job, event.fraction, describe_step(event))
        elif isinstance(event, PartBegun):
            self._reporter.advance(event.job, event.fraction, event.what)
        elif isinstance(event, ImageBegun) and not self._started:
            self._held = describe(event)
        elif isinstance(event, Event):
            self._started = self._started or isinstance(event, Started)
            lines = (describe(event), self._held) if isinstance(event, Started) else (self._held, describe(event))
            self._held = ""
            for line in filter(None, lines):
                self._reporter.say(line)


class _Lines:
    """A line every few seconds, and one at the end of anything that took longer than that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said_at = time.monotonic()
        self._said_any = False

    def advance(self, what: str, fraction: float, text: str) -> None:
        now = time.monotonic()
        if now - self._said_at >= _LINES_APART or (fraction >= 1 and self._said_any):
            self._said_at, self._said_any = now, True
            self.say(f"{what} {fraction:4.0%}  {text}")

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class _Bar:
    """A progress bar that stays at the bottom, with notices scrolling above it."""

    def __init__(self, stream: TextIO) -> None:
        console = Console(file=stream, highlight=False, markup=False)
        columns = (
            TextColumn("{task.fields[what]}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=1.0, what="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._progress.stop()

    def advance(self, what: str, fraction: float, text: str) -> None:
        self._progress.update(self._task, completed=fraction, description=text, what=what)

    def say(self, line: str) -> None:
        self._progress.console.print(line)


def describe(event: Event) -> str:
    """Put an event into one line; the empty string if it is not worth one."""
    if isinstance(event, Started):
        resumed = f", from step {event.start_step}" if event.start_step else ""
        size = f", {event.parameters / 1e6:.1f} M parameters" if event.parameters else ""
        return f"{event.job} on {event.device}{size}{resumed}; {event.kernels}"
    if isinstance(event, Notice):
        return f"note: {event.message}"
    if isinstance(event, Score):
        return f"held-out mIoU {event.miou:.3f} on {event.pixels} pixels at step {event.step}"
    if isinstance(event, ImageBegun):
        return f"image {event.place}/{event.count}  {event.name}"
    return ""


def describe_step(step: Step) -> str:
    """Put a step into words: count, loss, speed, time left."""
    noun = {"segment": "tile", "suggest": "place"}.get(step.job, "step")
    parts = [f"{noun} {step.step}" + (f"/{step.total_steps}" if step.total_steps else "")]
    if step.losses:
        parts.append(f"loss {step.loss:.4f}")
    if step.images_per_second > 0:
        parts.append(f"{step.images_per_second:.1f} tiles/s")
    if step.eta_seconds is not None:
        parts.append(f"{_clock(step.eta_seconds)} left")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
