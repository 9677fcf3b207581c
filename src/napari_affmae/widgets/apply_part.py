"""The part of step 3 that segments every image of step 1 into files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton, QWidget

from ..config import ApplyConfig, Refinement
from ..events import Done, ImageBegun, ImageWritten, Notice, Progress
from .apply_job import ImageApplied, apply_job
from .forms import JobBar, PathField, duration, form_layout, note, row, set_live, set_note, step_layout
from .state import count, why_not_apply, why_not_stop
from .warnings_once import NoticeAgain, Warned

if TYPE_CHECKING:
    from .session import Session

_FORMATS = (("TIFF", "tiff"), ("OME-Zarr", "ome-zarr"))


class ApplyPart(QWidget):
    """Where to write, in which format, and the bar of the job.

    Parameters
    ----------
    session
        The dock's shared objects.
    refinement
        Says what is done to every segmentation before it is written.
    rescale
        Says whether images are scaled to the model's pixel size.
    """

    def __init__(self, session: Session, refinement: Callable[[], Refinement], rescale: Callable[[], bool]) -> None:
        super().__init__()
        self._session = session
        self._refinement = refinement
        self._rescale = rescale
        self._image = ""
        self._tables = ""
        self._warned = Warned()
        settings = session.settings
        self.folder = PathField("Choose a folder for the results", "a new folder in the project")
        self.folder.set_text(settings.apply_folder)
        self.format = QComboBox()
        for name, value in _FORMATS:
            self.format.addItem(name, value)
        self.format.setCurrentIndex([value for _, value in _FORMATS].index(settings.apply_format))
        self.probabilities = QCheckBox("Write the probability of each class, too")
        self.probabilities.setChecked(settings.apply_probabilities)
        self.overwrite = QCheckBox("Replace results that are there already")
        self.overwrite.setToolTip("Otherwise finished images are left out, and files of others are never touched")
        self.apply = QPushButton("Apply to all")
        self.stop = QPushButton("Stop")
        self.bar = JobBar("tiles")
        self.result = note()
        self._lay_out()
        self._connect()
        self._render()

    def _lay_out(self) -> None:
        layout = step_layout(self)
        form = form_layout()
        form.addRow("Folder", self.folder)
        form.addRow("Format", self.format)
        layout.addLayout(form)
        layout.addWidget(self.probabilities)
        layout.addWidget(self.overwrite)
        layout.addLayout(row(self.apply, self.stop))
        layout.addWidget(self.bar)
        layout.addWidget(self.result)

    def _connect(self) -> None:
        session = self._session
        self.folder.chosen.connect(self._remember)
        self.format.currentIndexChanged.connect(self._remember)
        self.probabilities.toggled.connect(self._remember)
        self.apply.clicked.connect(self._apply)
        self.stop.clicked.connect(session.stop)
        session.event.connect(self._on_event)
        session.job_ended.connect(self._on_job_ended)
        session.state.events.connect(self._render)

    def _remember(self) -> None:
        self._session.settings = self._session.settings.replace(
            apply_folder=self.folder.text(),
            apply_format=self.format.currentData(),
            apply_probabilities=self.probabilities.isChecked(),
        )

    def _apply(self) -> None:
        session = self._session
        model, images = session.state.segmenter, session.state.images
        if model is None or images is None:
            return
        self._remember()
        config = ApplyConfig(
            format=self.format.currentData(),
            probabilities=self.probabilities.isChecked(),
            device=session.settings.device,
            views=session.settings.views,
            rescale=self._rescale(),
            refinement=self._refinement(),
        )
        self._tables = "areas.csv and instances.csv" if config.refinement.instances else "areas.csv"
        chosen = self.folder.text()
        out = Path(chosen).expanduser() if chosen else None
        self.bar.start()
        self._warned = Warned()
        set_note(self.result, "")
        accepted = {record.name for record in images.records if session.keeper.file.state(record.name) == "accepted"}
        job = apply_job(
            session.engine, model, images, session.project, out, config, session.keeper.certainty_of, accepted,
            overwrite=self.overwrite.isChecked(),
        )  # fmt: skip
        session.start("apply", job)

    # Reactions

    def _on_event(self, event: object) -> None:
        if self._session.state.job != "apply":
            return
        if isinstance(event, ImageBegun):
            self._image = f"{event.place} of {event.count}"
            self._session.say(f"Segmenting {event.name} ({self._image}) …")
        elif isinstance(event, Progress):
            left = "" if event.eta_seconds is None else f" · {duration(event.eta_seconds)} left"
            self.bar.show_fraction(event.fraction, f"{event.fraction:.0%} · image {self._image}{left}")
        elif isinstance(event, ImageWritten):
            self._session.say(f"Wrote {event.outputs[0]}.")
        elif isinstance(event, Notice | NoticeAgain):
            self._warned.take(event)
        elif isinstance(event, ImageApplied):
            self._keep(event)
        elif isinstance(event, Done):
            self._show_end(event)

    def _keep(self, done: ImageApplied) -> None:
        """Let the project hold what was written, so that the image shows it, now or when it is opened."""
        session, record = self._session, done.record
        plane = session.layers.plane_named(record.name)
        if plane is None and record.path is not None:
            session.keeper.keep_segmentation(record.name, done.result.labels)
        elif plane is not None and plane.shape == done.result.labels.shape and session.restorer.restore(plane):
            session.layers.show_segmentation(plane, done.result)

    def _show_end(self, done: Done) -> None:
        made, kept, failed = (int(done.summary.get(name, 0)) for name in ("images", "kept", "failed"))
        if kept and not (made or failed or done.stopped):
            text = f"All {kept} were there already: tick “{self.overwrite.text()}” to make them anew."
            set_note(self.result, text)
            self._session.inform(text)
            return
        parts = [f"{count(made, 'image')} written to {done.path}, with {self._tables}" if made else "no image was written"]
        if kept:
            parts.append(f"{kept} were there from before")
        if failed:
            parts.append(f"{failed} could not be read")
        if done.stopped:
            parts.append("“Apply to all” goes on with the rest")
        text = f"{'; '.join(parts)}. {self._warned.in_words()}".rstrip()
        set_note(self.result, f"Stopped: {text}" if done.stopped else text[0].upper() + text[1:])
        self._session.inform(f"{'Stopped' if done.stopped else 'Finished'} after {count(made, 'image')}.")

    def _on_job_ended(self, name: str) -> None:
        if name == "apply":
            self.bar.setVisible(False)
            self.overwrite.setChecked(False)

    def _render(self) -> None:
        state = self._session.state
        images = state.images
        text = "Apply to all" if images is None else f"Apply to {count(len(images), 'image')}"
        self.apply.setText(text)
        for widget in (self.folder, self.format, self.probabilities, self.overwrite):
            widget.setEnabled(state.job != "apply")
        set_live(self.apply, why_not_apply(state), "Segment every image of step 1 into a file")
        set_live(self.stop, why_not_stop(state, "apply"), "Keep what is finished and end; it can be taken up again")
