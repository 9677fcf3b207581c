"""Keeps paint and predictions: watches their layers, and saves what changed into the project folder within a second.

The main thread only notes what changed; a thread of its own compares and writes. Nothing has to be pressed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from psygnal import Signal
from qtpy.QtCore import QTimer

from ..card import ClassInfo
from ..data.project_folder import ImageEntry, ProjectFile, read_project
from ..errors import StorageError
from ..model_places import PROJECT_FILE
from .kinds import GROUP, KIND, PROJECT, Kind
from .layers import OverlayLayers
from .project_writer import Change, ProjectWriter, SavedLabels
from .strokes import stroke_regions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.layers import Labels

    from ..data.label_array import LabelKind, Region

MILLISECONDS_TO_SAVE = 200
"""How long after a stroke saving begins; what is painted meanwhile goes along."""

REST = 5
"""After a look at whole layers, the next one waits this many times as long as it took: scrolling asks for many."""

_KEPT: dict[str, LabelKind] = {Kind.PAINT: "paint", Kind.SEGMENTATION: "segmentation"}
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class _Closed:
    """Labels of an image that is not open."""

    data: npt.NDArray[Any]


@dataclass
class _Note:
    """What changed in a layer since it was saved."""

    layer: Labels | _Closed
    regions: list[Region] = field(default_factory=list)
    whole: bool = False


@dataclass(frozen=True)
class _Work:
    """What the saving thread does for somebody who waits; nothing is saved before one that is alone was taken up."""

    future: Future[Any]
    then: Callable[[Any], None]
    alone: bool


class ProjectKeeper:
    """The open project.

    Attributes
    ----------
    file
        What ``project.json`` holds, or will after the next save. Replaced, never changed.
    why_not
        Why the latest save failed; empty if it did not.

    Signals
    -------
    changed()
        States, counts or classes are others than before.
    failed(Exception)
        Something could not be saved; it is tried again with the next change, and said once.
    recovered()
        All that could not be saved is saved now.
    """

    changed = Signal()
    failed = Signal(Exception)
    recovered = Signal()

    def __init__(self, layers: OverlayLayers) -> None:
        self.file = ProjectFile()
        self._layers = layers
        self._writer: ProjectWriter | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="affmae-save")
        self._notes: dict[tuple[str, LabelKind], _Note] = {}
        self._file_changed = False
        self._saving: tuple[Future[dict[str, ImageEntry]], dict[tuple[str, LabelKind], _Note]] | None = None
        self._waiting: list[_Work] = []
        self._rest_until = 0.0
        self._ignores = False
        self.why_not = ""
        self._timer = QTimer()
        self._timer.setInterval(MILLISECONDS_TO_SAVE)
        self._timer.timeout.connect(self._tick)
        layers.overlay_added.connect(self._watch)
        layers.paint_removed.connect(self.note)

    @property
    def folder(self) -> Path | None:
        """The project folder."""
        return None if self._writer is None else self._writer.folder

    def open(self, folder: Path) -> ProjectFile:
        """Take up a project, after saving the one before; a damaged ``project.json`` is set aside and said."""
        self.flush()
        self._file_changed = False
        try:
            self.file = read_project(folder)
            self._writer = ProjectWriter(folder, self.file)
        except StorageError as error:
            self.file = ProjectFile()
            self._writer = ProjectWriter(folder, self.file)
            path = folder / PROJECT_FILE
            try:
                path.rename(path.with_name(f"damaged-{time.strftime('%Y%m%d-%H%M%S')}.json"))
            except OSError:
                self._writer = None
            self.failed.emit(error)
        self.changed.emit()
        return self.file

    # What changes

    def update(self, **fields: Any) -> None:
        """Replace fields of the project file, see :class:`ProjectFile`."""
        file = self.file.replace(**fields)
        if file != self.file and self._writer is not None:
            self.file = file
            self._file_changed = True
            self._timer.start()
            self.changed.emit()

    def set_classes(self, classes: Sequence[ClassInfo]) -> None:
        """Keep the class table."""
        self.update(classes=tuple(classes))

    def accept(self, image: str, stack: str, index: tuple[int, ...], accepted: bool) -> None:
        """Keep that the user is content with an image, or is not any more."""
        entry = self.file.images.get(image) or ImageEntry(labels=self.file.labels_of(stack), index=index)
        self.update(images={**self.file.images, image: entry.updated(accepted=accepted)})

    def has_labels(self, stack: str) -> bool:
        """Whether the project keeps something of an image or a stack."""
        return self.folder is not None and (self.folder / self.file.labels_of(stack)).is_dir()

    def certainty_of(self, image: str) -> Path | None:
        """Return where the project keeps how sure the segmentation of an image is; None without a project."""
        return None if self.folder is None else self.folder / self.file.certainty_of(image)

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Note nothing meanwhile: layers are replaced by what is on disk."""
        self._ignores = True
        try:
            yield
        finally:
            self._ignores = False

    def note(self, layer: Labels, regions: Sequence[Region] | None = None) -> None:
        """Note that a layer changed, somewhere if no regions are given."""
        kind = _KEPT.get(layer.metadata.get(KIND, ""))
        # The segmentation of an image too large for memory, in several scales, is on disk already.
        if kind is None or layer.multiscale or self._ignores or self._writer is None:
            return
        layer.metadata[PROJECT] = str(self._writer.folder)
        key = (str(layer.metadata[GROUP]), kind)
        note = self._notes.get(key)
        if note is None or note.layer is not layer:
            # Of a layer that took the place of another one, everything may be new.
            note = self._notes[key] = _Note(layer, whole=note is not None)
        note.whole |= regions is None
        note.regions += regions or ()
        if not self._timer.isActive():
            self._timer.start()

    def keep_segmentation(self, image: str, labels: npt.NDArray[np.uint8]) -> None:
        """Keep the segmentation ``[H, W]`` of an image that is not open."""
        if self._writer is not None:
            self._notes[image, "segmentation"] = _Note(_Closed(labels), whole=True)
            self._timer.start()

    # Other work of the saving thread

    def read(self, stack: str) -> SavedLabels:
        """Return what is kept of an image or a stack; waits for the disk.

        Raises
        ------
        StorageError
            If it cannot be read.
        """
        file = self.file
        future = self._submit(lambda writer: writer.read(file, stack))
        return SavedLabels(None, None) if future is None else future.result()

    def run(self, work: Callable[[ProjectWriter], _Result], then: Callable[[_Result], None], *, alone: bool = False) -> None:
        """Do something in the saving thread after all that was noted, then call ``then`` with the result in the main thread.

        With ``alone``, nothing is saved in between.
        """
        future = self._submit(work)
        if future is not None:
            self._waiting.append(_Work(future, then, alone))
            self._timer.start()

    def _submit(self, work: Callable[[ProjectWriter], _Result]) -> Future[_Result] | None:
        if self._writer is None:
            return None
        self._begin_saving(everything=True)
        return self._thread.submit(work, self._writer)

    def reload(self) -> ProjectFile:
        """Take up the project as it is on disk now, and forget what was noted."""
        folder = self.folder
        self._notes.clear()
        self._file_changed = False
        return self.file if folder is None else self.open(folder)

    def flush(self, timeout: float = 10.0) -> bool:
        """Save all that was noted, and wait for it at most ``timeout`` seconds; return whether it is done."""
        until = time.monotonic() + timeout
        while self._saving is not None or self._notes or self._file_changed:
            if self._saving is None:
                self._begin_saving(everything=True)
            if self._saving is None:
                return False
            try:
                self._saving[0].exception(max(until - time.monotonic(), 0.0))
            except FutureTimeout:
                return False
            if not self._end_saving():
                return False
        return True

    def close(self, timeout: float = 10.0) -> bool:
        """Save, stop, and watch no layer any more; return whether everything is saved."""
        done = self.flush(timeout)
        for layer in self._layers.overlays():
            if layer.metadata[KIND] in _KEPT:
                layer.events.paint.disconnect(self._on_stroke)
                layer.events.data.disconnect(self._on_other)
                layer.events.set_data.disconnect(self._on_other)
        self._timer.stop()
        self._writer = None
        self._thread.shutdown(wait=False)
        return done

    # Plumbing

    def _watch(self, layer: Labels) -> None:
        if layer.metadata.get(KIND) not in _KEPT:
            return
        layer.events.paint.connect(self._on_stroke)
        layer.events.data.connect(self._on_other)
        # Undo, redo and whatever else napari has no event for; scrolling through a stack causes it as well.
        layer.events.set_data.connect(self._on_other)
        self.note(layer)

    def _on_stroke(self, event: Any) -> None:
        self.note(event.source, stroke_regions(event.value, event.source.data.shape))

    def _on_other(self, event: Any) -> None:
        self.note(event.source)

    def _tick(self) -> None:
        failed = False
        if self._saving is None or self._saving[0].done():
            failed = not self._end_saving()
            if not failed:
                self._begin_saving()
        for one in [one for one in self._waiting if one.future.done()]:
            self._waiting.remove(one)
            error = one.future.exception()
            if isinstance(error, Exception):
                self.failed.emit(error)
            else:
                one.then(one.future.result())
        if self._saving is None and not self._waiting and (failed or (not self._notes and not self._file_changed)):
            # What failed is tried again with the next change.
            self._timer.stop()

    def _begin_saving(self, everything: bool = False) -> None:
        if self._saving is not None and everything:
            self._saving[0].exception()
            self._end_saving()
        if self._writer is None or self._saving is not None or any(one.alone for one in self._waiting):
            return
        rests = not everything and time.monotonic() < self._rest_until
        taken = {}
        for key, note in list(self._notes.items()):
            if not note.whole or not rests:
                taken[key] = self._notes.pop(key)
            elif note.regions:
                taken[key] = _Note(note.layer, note.regions)
                note.regions = []
        if not taken and not self._file_changed:
            return
        self._file_changed = False
        changes = [
            Change(stack, kind, note.layer.data, None if note.whole else note.regions) for (stack, kind), note in taken.items()
        ]
        begun = time.monotonic()
        future = self._thread.submit(self._writer.save, self.file, changes)
        if any(note.whole for note in taken.values()):
            future.add_done_callback(lambda _: self._rest_after(time.monotonic() - begun))
        self._saving = (future, taken)

    def _rest_after(self, seconds: float) -> None:
        self._rest_until = time.monotonic() + REST * seconds

    def _end_saving(self) -> bool:
        """Take over what the thread has found out; return whether it succeeded."""
        if self._saving is None:
            return True
        future, notes = self._saving
        self._saving = None
        error = future.exception()
        if error is not None:
            self._file_changed = True
            for key, note in notes.items():
                self._notes.setdefault(key, _Note(note.layer)).whole = True
            if isinstance(error, Exception) and str(error) != self.why_not:
                self.why_not = str(error)
                is_ours = isinstance(error, StorageError)
                self.failed.emit(StorageError(f"{error}; until then paint is in memory only") if is_ours else error)
            return False
        if self.why_not:
            self.why_not = ""
            self.recovered.emit()
        entries = {name: entry for name, entry in future.result().items() if self.file.images.get(name) != entry}
        if entries:
            # The user may have accepted an image meanwhile.
            entries = {
                name: entry.updated(accepted=self.file.state(name) == "accepted") if name in self.file.images else entry
                for name, entry in entries.items()
            }
            self.file = self.file.model_copy(update={"images": {**self.file.images, **entries}})
            self.changed.emit()
        return True
