"""Runs one job at a time in one worker thread and hands its events to the main thread, at most ten times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

from napari.qt.threading import create_worker
from psygnal import Signal
from qtpy.QtCore import QTimer
from superqt.utils import GeneratorWorker

from ..control import JobControl
from .mailbox import SECONDS_BETWEEN_BATCHES, Mailbox

Job = Callable[[JobControl], Iterator[object]]
"""Takes the control to obey and yields events. Runs, and imports torch, in the worker thread."""


class JobWorker(GeneratorWorker["Exception | None", None, None]):
    """A worker whose ``quit`` lets the job save a checkpoint and end by itself.

    napari calls ``quit`` on every worker when it closes. The plain worker would drop the generator between two steps, and would
    wait for ever for a paused one.
    """

    def __init__(self, name: str, job: Job, control: JobControl, mailbox: Mailbox, over: threading.Event) -> None:
        self._control = control
        super().__init__(_pump, job, control, mailbox, over)

    def quit(self) -> None:
        """Ask the job to stop."""
        self._control.stop()


def _pump(job: Job, control: JobControl, mailbox: Mailbox, over: threading.Event) -> Generator[Exception | None, None, None]:
    """Run the job; runs in the worker thread from the first to the last line. None says that there is post."""
    try:
        for event in job(control):
            if mailbox.put(event):
                yield None
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
        self._mailbox = Mailbox()
        self._over: threading.Event | None = None
        self._worker: JobWorker | None = None
        self._timer: QTimer | None = None

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
        self._mailbox = Mailbox()
        self._over = threading.Event()
        worker = create_worker(
            name, job, self._control, self._mailbox, self._over, _worker_class=JobWorker, _start_thread=False
        )
        worker.yielded.connect(lambda error: self._fetch(generation, error))
        worker.finished.connect(lambda: self._finish(generation))
        self._worker = worker
        # A job may say something and then be busy for minutes: what it said must not wait for what it says next.
        self._timer = QTimer()
        self._timer.timeout.connect(lambda: self._fetch(generation))
        self._timer.start(round(SECONDS_BETWEEN_BATCHES * 1000))
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
        self._forget()
        if control is None or over is None:
            return True
        control.stop()
        return over.wait(timeout)

    def _fetch(self, generation: int, error: Exception | None = None, *, last: bool = False) -> None:
        """Hand on what waits, before an error if there is one."""
        if generation == self._generation and (batch := self._mailbox.fetch(early=last or error is not None)):
            self.batch.emit(batch)
        if generation == self._generation and error is not None:  # a listener may have closed the runner
            self.failed.emit(error)

    def _finish(self, generation: int) -> None:
        self._fetch(generation, last=True)
        if generation == self._generation:
            self._forget()
            self.ended.emit()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._control = self._over = self._worker = self._timer = None
