"""What the four steps share: the state, the one runner, the layers, the settings, and how to speak to the user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import notification_manager, show_error, show_info, show_warning
from psygnal import Signal
from qtpy.QtCore import QTimer

from ..card import ClassInfo
from ..data.project_folder import ProjectFile
from ..errors import StorageError, expected
from ..events import Notice, PartBegun, Started
from ..words import sentence
from .class_edits import ClassEdits
from .image_opener import ImageOpener
from .job_runner import Job, JobRunner
from .jobs import Engine
from .keeper import ProjectKeeper
from .layer_identity import LayerIdentity
from .layers import OverlayLayers
from .networks import Networks
from .project import default_project, is_of_others, new_run
from .restorer import Restorer
from .settings_store import SettingsStore
from .state import JOB_WORDS, JobName, LoopState, Phase, with_lost
from .take_up import take_up

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from napari.components import ViewerModel
    from napari.layers import Image

    from ..data.records import ImageRecord
    from ..model_places import RunKind

SECONDS_TO_CLOSE = 10.0
"""How long closing the dock waits for a job to save and end."""

ON_IMAGES: Collection[JobName] = ("finetune", "compare", "segment", "suggest")
"""Jobs on open images and their paint, which looks inside would cover."""

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
    project_opened()
        The project is another one, or as a snapshot had it.
    """

    event = Signal(object)
    status = Signal(str, bool)
    job_ended = Signal(str)
    closing = Signal(float)
    project_opened = Signal()

    def __init__(self, viewer: ViewerModel, engine: Engine, store: SettingsStore) -> None:
        self.viewer = viewer
        self.engine = engine
        self.store = store
        self.settings = store.load()
        self.state = LoopState(classes=self.settings.classes)
        self._default_project = default_project("")
        self._begun = ("", "")
        self.layers = OverlayLayers(viewer)
        self.keeper = ProjectKeeper(self.layers)
        self.identity = LayerIdentity(self.layers, self.keeper)
        self.class_edits = ClassEdits(self.state, self.layers, self.keeper)
        self.opener = ImageOpener(self)
        self.networks = Networks(self)
        self.restorer = Restorer(self)
        self.runner = JobRunner()
        self.closed = False
        self._said = ""
        self.status.connect(self._on_status)
        self.runner.batch.connect(self._on_batch)
        self.runner.failed.connect(self._on_failed)
        self.runner.ended.connect(self._on_ended)
        self.layers.current_changed.connect(self.update_image)
        self._quiet = QTimer()
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(QUIET_MILLISECONDS)
        self._quiet.timeout.connect(self.count_paint)
        self.layers.painted.connect(self.count_paint)
        self.layers.paint_redrawn.connect(self._count_paint_soon)
        self.layers.told_apart.connect(self._on_told_apart)
        self._left: set[str] = set()
        self._later = QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._remove_orphans)
        self.layers.image_left.connect(self._on_image_left)
        self.class_edits.said.connect(self.say)
        self.keeper.failed.connect(self.fail)
        self.keeper.recovered.connect(self._on_saved_again)
        self.keeper.changed.connect(self.count_paint)
        self.state.events.classes.connect(self.keeper.set_classes)
        self.state.events.source.connect(self._on_source)
        self.update_image()

    @property
    def project(self) -> Path:
        """The project folder: the chosen one, or one named after the images."""
        return Path(self.settings.project).expanduser() if self.settings.project else self._default_project

    # Jobs

    def new_run(self, kind: RunKind) -> Path | None:
        """Make a run folder in the project; None, and the reason is shown, if that cannot be."""
        try:
            return new_run(self.project, kind)
        except StorageError as error:
            self.fail(error)
            return None

    def start(self, name: JobName, job: Job) -> None:
        """Start a job; the settings are kept first."""
        self.store.save(self.settings)
        if name in ON_IMAGES:
            self.layers.put_looks_away()
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

    def _say_device(self, device: str) -> None:
        """Write where a job runs behind what it does."""
        if device not in self._said:
            self.say(f"{self._said} {device}")

    def inform(self, text: str) -> None:
        """Write the status line and show a notification."""
        self.say(text)
        show_info(text)

    def warn(self, text: str) -> None:
        """Show a warning that the job goes on with."""
        self.status.emit(sentence(text), False)
        show_warning(sentence(text))

    def fail(self, error: Exception) -> None:
        """Show an error: one that is to be expected as its message, any other with its traceback behind the notification."""
        told = expected(error)
        if told is not None:
            text = sentence(told)
            self.status.emit(text, True)
            show_error(text)
        else:
            self.status.emit(f"Unexpected {type(error).__name__}: {error}", True)
            notification_manager.receive_error(type(error), error, error.__traceback__)

    # Paint

    def count_paint(self) -> None:
        """Count the painted pixels now; undo on a hidden layer, for one, shows in nothing that could be listened to."""
        painted = self.layers.painted_pixels()
        unnamed = painted.keys() - {info.id for info in self.state.classes}
        for class_id, pixels in self.keeper.file.painted(record.name for record in self._closed_images()).items():
            painted[class_id] = painted.get(class_id, 0) + pixels
        self.state.painted = painted
        if unnamed:
            # napari's own controls choose any label, and a project can be cut off between its labels and its classes.
            self.state.classes = with_lost(self.state.classes, unnamed)

    def painted_examples(self) -> list[tuple[ImageRecord, Any]]:
        """Return every image that has paint, each with a copy of it, or, if it is not open, with what reads it from disk."""
        return [*self.layers.painted_planes(), *self.closed_paint()]

    def closed_paint(self) -> list[tuple[ImageRecord, Any]]:
        """Return the images that have paint, but are not open with it, each with what reads it from disk."""
        from ..data.project_labels import stored_paint

        if self.keeper.folder is None:
            return []
        return list(stored_paint(self.keeper.folder, self.keeper.file, self._closed_images()))

    def training_material(self) -> tuple[list[tuple[ImageRecord, Any]], list[ClassInfo]] | None:
        """Save and count the paint; return what is painted and the classes in it, or None, said, if it cannot be saved."""
        try:
            self.save_paint()
        except StorageError as error:
            self.fail(error)
            return None
        self.count_paint()
        return self.painted_examples(), [info for info in self.state.classes if self.state.painted.get(info.id)]

    def _closed_images(self) -> list[ImageRecord]:
        """Return the images of the collection that have paint, but are not open with it."""
        file = self.keeper.file
        opened = {file.labels_of(group) for group in self.layers.learned_from()}
        records = self.state.images.records if self.state.images is not None else ()
        return [one for one in records if one.name in file.images and file.images[one.name].labels not in opened]

    # Project

    def begin(self) -> None:
        """Take up the project and what an earlier dock left in the viewer; called once, when all forms are there."""
        left = self.layers.overlays()
        self.open_project()
        self.layers.adopt(left)

    def open_project(self) -> None:
        """Take up the project folder that is chosen now, if it is another one than before."""
        if self.keeper.folder != self.project:
            self._take(self.keeper.open(self.project))
        here = (str(self.project), self.state.source)
        if here != self._begun:
            self._begun = here
            self._begin_with_images()

    def leave_images(self, taken: Sequence[Image] = ()) -> bool:
        """Close the images that were opened from the list, their paint saved; return False, said, if it cannot be saved.

        Images of the next folder may have the same names, and their paint is found by name. Those that are ``taken`` stay open,
        as the user's own, and are told from others by their pixels from now on.
        """
        if self.keeper.folder is not None:
            try:
                self.save_paint()
            except StorageError as error:
                self.fail(error)
                return False
        self.layers.take_over(taken)
        self.layers.close_opened()
        self.opener.forget()
        return True

    def _on_source(self, source: str) -> None:
        self._default_project = default_project(source)
        self.open_project()

    def _begin_with_images(self) -> None:
        """Keep in the project which images it is of, or say that they are others."""
        before, source = self.keeper.file.source, self.state.source
        if self.project_of_others:
            self.warn(
                f"images of the same name share their paint with those in {before}, which {self.project} was begun with: "
                "choose another project folder in step 2 if these are others"
            )
        elif source:
            self.keeper.update(source=source)

    @property
    def project_of_others(self) -> bool:
        """Whether the project was begun with other images than these."""
        return is_of_others(self.keeper.file.source, self.state.source)

    def reload_project(self) -> None:
        """Show the project as it is on disk now: a snapshot was restored."""
        self._take(self.keeper.reload(), anew=True)

    def _take(self, file: ProjectFile, *, anew: bool = False) -> None:
        take_up(self, file, anew=anew)
        self.project_opened.emit()

    def save_paint(self) -> None:
        """Write what was painted just now, without waiting for it to be written by itself.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        if not self.keeper.flush():
            why_not = self.keeper.why_not or f"the paint could not be saved to {self.project} in time; try again"
            raise StorageError(why_not)

    def close(self, timeout: float = SECONDS_TO_CLOSE) -> bool:
        """Keep settings and paint, stop the job, and return whether it ended within ``timeout`` seconds.

        Closing twice is harmless.
        """
        if self.closed:
            return True
        self.closed = True
        self.closing.emit(timeout)
        for layer in self.layers.paint_layers().values():
            self.keeper.note(layer)
        # The forms may be gone already: nothing is written into the status line.
        self.keeper.failed.disconnect(self.fail)
        self.keeper.recovered.disconnect(self._on_saved_again)
        if not self.keeper.close(timeout=SECONDS_TO_CLOSE):
            show_warning(sentence(f"What was painted last is not saved: {self.keeper.why_not or 'it took too long'}"))
        self.class_edits.close()
        self.layers.disconnect()
        self._quiet.stop()
        self._later.stop()
        self.store.save(self.settings)
        ended = self.runner.close(timeout)
        if not ended:
            show_warning(f"{JOB_WORDS[self.state.job or 'pretrain'].capitalize()} ends by itself after its current step.")
        return ended

    # Reactions

    def _on_batch(self, events: tuple[object, ...]) -> None:
        for event in events:
            if self.state.phase is Phase.STARTING:
                self.state.phase = Phase.RUNNING
            if isinstance(event, Started):
                self._say_device(running_on(event))
            elif isinstance(event, Notice):
                self.warn(event.message)
            elif isinstance(event, PartBegun) and event.fraction == 0 and self.state.phase is Phase.STOPPING:
                self.state.phase = Phase.FINISHING
            self.event.emit(event)

    def _on_status(self, text: str) -> None:
        self._said = text

    def _on_failed(self, error: Exception) -> None:
        self.fail(error)

    def _on_ended(self) -> None:
        name = self.state.job
        self.state.phase = Phase.IDLE
        self.state.job = None
        if name is not None:
            self.job_ended.emit(name)

    def _on_saved_again(self) -> None:
        self.say("All paint is saved again.")

    def _on_told_apart(self, name: str, here: str) -> None:
        self.say(f"Another “{name}” was painted before; this one goes by “{here}” here.")

    def _on_image_left(self, group: str) -> None:
        # napari may be about to remove overlays, too, or to put another image in its place.
        self._left.add(group)
        self._later.start()

    def _remove_orphans(self) -> None:
        """Let overlays go with their image; paint and prediction are kept in the project, and come back with it."""
        left, self._left = self._left, set()
        if self.keeper.folder is not None and self.keeper.flush():  # otherwise their paint is nowhere else
            for group in sorted(self.layers.remove_orphans(left)):
                self.say(f"{group} was removed; its paint and segmentation are kept in the project.")

    def update_image(self) -> None:
        """Look anew which image is worked on, and in which channels."""
        plane = self.layers.current()
        self.state.image = None if plane is None else plane.current_image()

    def _count_paint_soon(self) -> None:
        self._quiet.start()


def running_on(started: Started) -> str:
    """Say where a job runs; and by which operators where there is a choice, which a CPU does not have."""
    if started.device.startswith("cpu"):
        return f"Running on the CPU{started.device.removeprefix('cpu')}."
    return f"Running on {started.device}: {started.kernels}."
