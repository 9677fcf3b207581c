"""Runs one job at a time in one worker thread and hands its events to the main thread, at most ten times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator

from napari.qt.threading import create_worker
from psygnal import Signal
from superqt.utils import GeneratorWorker

from ..control import JobControl
from ..events import Preview

Job = Callable[[JobControl], Iterator[object]]
"""Takes the control to obey and yields events. Runs, and imports torch, in the worker thread."""

SECONDS_BETWEEN_BATCHES = 0.1


def throttled(
    events: Iterator[object], interval: float = SECONDS_BETWEEN_BATCHES, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[object, ...]]:
    """Gather events into batches that are at least ``interval`` seconds apart.

    Every event arrives, in order, but for previews: of those only the last one of a batch does. What is waiting when the events
    end, or when they fail, is handed out first. The first event goes out at once.
    """
    waiting: list[object] = []
    last = -float("inf")
    try:
        for event in events:
            if isinstance(event, Preview):
                waiting = [other for other in waiting if not isinstance(other, Preview)]
            waiting.append(event)
            if clock() - last >= interval:
                yield tuple(waiting)
                waiting = []
                last = clock()
    except Exception:
        if waiting:
            yield tuple(waiting)
        raise
    if waiting:
        yield tuple(waiting)


class JobWorker(GeneratorWorker["tuple[object, ...] | Exception", None, None]):
    """A worker whose ``quit`` lets the job save a checkpoint and end by itself.

    napari calls ``quit`` on every worker when it closes. The plain worker would drop the generator between two steps, and would
    wait for ever for a paused one.
    """

    def __init__(self, name: str, job: Job, control: JobControl, over: threading.Event) -> None:
        self._control = control
        super().__init__(_pump, job, control, over)

    def quit(self) -> None:
        """Ask the job to stop."""
        self._control.stop()


def _pump(job: Job, control: JobControl, over: threading.Event) -> Generator[tuple[object, ...] | Exception, None, None]:
    """Run the job; runs in the worker thread from the first to the last line."""
    try:
        yield from throttled(job(control))
    except Exception as error:  # noqa: BLE001  shown by the listener
        # The worker takes a RuntimeError, which most errors of torch are, for its own deletion: it neither says it nor ends.
        yield error
    finally:
        over.set()


class JobRunner:
    """One job at a time. Not a Qt object, so that it outlives the dock for as long as its job needs.

    Signals
    -------
    batch(tuple)
        Events of the running job, in the main thread.
    failed(Exception)
        The job raised; nothing more comes from it.
    ended()
        The job is over, whichever way; the last signal of a job.
    """

    batch = Signal(tuple)
    failed = Signal(Exception)
    ended = Signal()

    def __init__(self) -> None:
        self._generation = 0
        self._control: JobControl | None = None
        self._over: threading.Event | None = None
        self._worker: JobWorker | None = None

    @property
    def running(self) -> bool:
        """Whether a job was started whose end has not arrived yet."""
        return self._control is not None

    def start(self, job: Job, name: str, control: JobControl | None = None) -> None:
        """Start ``job`` in the worker thread; napari asks before closing with ``name`` while it runs.

        ``control`` is what the job obeys, if its starter needs one of another kind.

        Raises
        ------
        RuntimeError
            If a job is running.
        """
        if self.running:
            raise RuntimeError("a job is running already; stop it first")
        self._generation += 1
        generation = self._generation
        self._control = control or JobControl()
        self._over = threading.Event()
        worker = create_worker(name, job, self._control, self._over, _worker_class=JobWorker, _start_thread=False)
        worker.yielded.connect(lambda came: self._deliver(generation, came))
        worker.finished.connect(lambda: self._finish(generation))
        self._worker = worker
        worker.start()

    def pause(self) -> None:
        """Hold the job still after its current step."""
        if self._control is not None:
            self._control.pause()

    def resume(self) -> None:
        """Let a paused job go on."""
        if self._control is not None:
            self._control.resume()

    def stop(self) -> None:
        """Ask the job to save and end. Its last events still arrive."""
        if self._control is not None:
            self._control.stop()

    def close(self, timeout: float = 10.0) -> bool:
        """Stop, drop whatever still arrives, and wait at most ``timeout`` seconds; return whether the job has ended.

        A job that needs longer ends by itself after its step; nobody hears of it any more.
        """
        self._generation += 1
        control, over = self._control, self._over
        self._control = self._over = self._worker = None
        if control is None or over is None:
            return True
        control.stop()
        return over.wait(timeout)

    def _deliver(self, generation: int, came: tuple[object, ...] | Exception) -> None:
        if generation == self._generation:
            if isinstance(came, Exception):
                self.failed.emit(came)
            else:
                self.batch.emit(came)

    def _finish(self, generation: int) -> None:
        if generation == self._generation:
            self._control = self._over = self._worker = None
            self.ended.emit()
