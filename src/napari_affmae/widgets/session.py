"""What the four steps share: the state, the one runner, the layers, the settings, and how to speak to the user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import notification_manager, show_error, show_info, show_warning
from psygnal import Signal
from qtpy.QtCore import QTimer

from ..errors import AffmaeError
from ..events import Notice, Started
from .job_runner import Job, JobRunner
from .jobs import Engine
from .layers import OverlayLayers
from .paint_store import save_paint
from .project import default_project
from .settings_store import SettingsStore
from .state import JOB_WORDS, JobName, LoopState, Phase

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

SECONDS_TO_CLOSE = 10.0
"""How long closing the dock waits for a job to save and end."""


QUIET_MILLISECONDS = 100
"""How long paint must not have been redrawn before it is counted: not while the user scrolls through a stack."""


class Session:
    """One dock's shared objects.

    Signals
    -------
    event(object)
        An event of the running job.
    status(str, bool)
        A line for the user; True if it reports an error.
    job_ended(str)
        A job is over; its name.
    closing(float)
        The dock closes; whoever has a worker of its own may wait for it at most so many seconds.
    """

    event = Signal(object)
    status = Signal(str, bool)
    job_ended = Signal(str)
    closing = Signal(float)

    def __init__(self, viewer: ViewerModel, engine: Engine, store: SettingsStore) -> None:
        self.viewer = viewer
        self.engine = engine
        self.store = store
        self.settings = store.load()
        self.state = LoopState(classes=self.settings.classes)
        self.layers = OverlayLayers(viewer)
        self.runner = JobRunner()
        self.closed = False
        self.runner.batch.connect(self._on_batch)
        self.runner.failed.connect(self._on_failed)
        self.runner.ended.connect(self._on_ended)
        self.layers.current_changed.connect(self._update_image)
        self._quiet = QTimer()
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(QUIET_MILLISECONDS)
        self._quiet.timeout.connect(self.count_paint)
        self.layers.painted.connect(self.count_paint)
        self.layers.paint_redrawn.connect(self._count_paint_soon)
        self.layers.paint_removed.connect(self._keep_removed_paint)
        self._update_image()

    @property
    def project(self) -> Path:
        """The project folder: the chosen one, or one named after the images."""
        return Path(self.settings.project).expanduser() if self.settings.project else default_project(self.state.source)

    # Jobs

    def start(self, name: JobName, job: Job) -> None:
        """Start a job; the settings are kept first."""
        self.store.save(self.settings)
        self.state.job = name
        self.state.phase = Phase.STARTING
        self.say(f"{JOB_WORDS[name].capitalize()} …")
        self.runner.start(job, f"AFFMAE {JOB_WORDS[name]}")

    def pause(self) -> None:
        """Hold the job still."""
        self.runner.pause()
        self.state.phase = Phase.PAUSED
        self.say("Paused after the current step.")

    def resume(self) -> None:
        """Let the paused job go on."""
        self.runner.resume()
        self.state.phase = Phase.RUNNING
        self.say("Going on.")

    def stop(self) -> None:
        """Ask the job to save and end."""
        self.runner.stop()
        self.state.phase = Phase.STOPPING
        self.say("Stopping after the current step …")

    # Speaking

    def say(self, text: str) -> None:
        """Write the status line."""
        self.status.emit(text, False)

    def inform(self, text: str) -> None:
        """Write the status line and show a notification."""
        self.say(text)
        show_info(text)

    def warn(self, text: str) -> None:
        """Show a warning that the job goes on with."""
        self.status.emit(text, False)
        show_warning(text)

    def fail(self, error: Exception) -> None:
        """Show an error: ours as its message, any other one with its traceback behind the notification."""
        if isinstance(error, AffmaeError):
            self.status.emit(str(error), True)
            show_error(str(error))
        else:
            self.status.emit(f"Unexpected {type(error).__name__}: {error}", True)
            notification_manager.receive_error(type(error), error, error.__traceback__)

    # Paint

    def count_paint(self) -> None:
        """Count the painted pixels now; undo on a hidden layer, for one, shows in nothing that could be listened to."""
        self.state.painted = self.layers.painted_pixels()

    def save_paint(self) -> list[Path]:
        """Write all paint into the project folder."""
        return save_paint(self.project, self.layers.paint())

    def close(self, timeout: float = SECONDS_TO_CLOSE) -> None:
        """Keep settings and paint, stop the job, wait for it at most ``timeout`` seconds. Closing twice is harmless."""
        if self.closed:
            return
        self.closed = True
        self.layers.disconnect()
        self._quiet.stop()
        self.store.save(self.settings)
        try:
            self.save_paint()
        except AffmaeError as error:
            show_error(str(error))
        self.closing.emit(timeout)
        if not self.runner.close(timeout):
            show_warning(f"{JOB_WORDS[self.state.job or 'pretrain'].capitalize()} ends by itself after its current step.")

    # Reactions

    def _on_batch(self, events: tuple[object, ...]) -> None:
        for event in events:
            if self.state.phase is Phase.STARTING:
                self.state.phase = Phase.RUNNING
            if isinstance(event, Started):
                self.say(f"Running on {event.device}. {event.kernels}")
            elif isinstance(event, Notice):
                self.warn(event.message)
            self.event.emit(event)

    def _on_failed(self, error: Exception) -> None:
        self.fail(error)

    def _on_ended(self) -> None:
        name = self.state.job
        self.state.phase = Phase.IDLE
        self.state.job = None
        if name is not None:
            self.job_ended.emit(name)

    def _update_image(self) -> None:
        plane = self.layers.current()
        self.state.image = None if plane is None else plane.current_image()

    def _count_paint_soon(self) -> None:
        self._quiet.start()

    def _keep_removed_paint(self, layer: Labels) -> None:
        from .layers import GROUP

        try:
            save_paint(self.project, {str(layer.metadata[GROUP]): layer.data})
        except AffmaeError as error:
            self.fail(error)
