"""The part of step 3 that refines a segmentation: a layer of its own beside it, gone again when it is switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QSpinBox, QWidget

from ..config import Refinement
from .class_ids import class_table
from .forms import form_layout, note, set_note, step_layout
from .job_runner import JobRunner
from .object_table import ObjectTable
from .refine_job import RefineDone, refine_job
from .state import count

if TYPE_CHECKING:
    from .plane import Plane
    from .session import Session

_AUTOMATIC = "automatic"
_QUIET_MILLISECONDS = 250
"""How long the settings must not have changed before work begins: not at every click of an arrow."""


class RefinePart(QWidget):
    """Settings of the refinement, the switch, and a table of what was found."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._runner = JobRunner()
        self._plane = session.layers.current()
        self._again = False
        self._waits = False
        self._by_shape = False
        settings = session.settings.refinement
        self.on = QCheckBox("Show the refined segmentation")
        self.on.setToolTip("Off removes the refined layers again; the segmentation itself is never changed")
        self.specks = _pixels(settings.specks)
        self.specks.setToolTip("Objects of fewer pixels become part of what surrounds them")
        self.holes = _pixels(settings.holes)
        self.holes.setToolTip("Background of at most so many pixels inside an object is filled")
        self.split = QDoubleSpinBox()
        self.split.setRange(0, 1000)
        self.split.setDecimals(1)
        self.split.setSingleStep(0.5)
        self.split.setSuffix(" px")
        self.split.setSpecialValueText("never")
        self.split.setValue(settings.split)
        self.split.setToolTip("How deep the neck between two touching objects must be for them to count as two")
        self.background = QComboBox()
        self.background.setToolTip("The class that is no object: automatic takes “background”, or the first class")
        self.hint = note()
        self.table = ObjectTable(session)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_QUIET_MILLISECONDS)
        self._lay_out()
        self._list_classes()
        self._connect()
        self._render()

    def _lay_out(self) -> None:
        layout = step_layout(self)
        layout.addWidget(self.on)
        form = form_layout()
        form.addRow("Remove specks below", self.specks)
        form.addRow("Fill holes up to", self.holes)
        form.addRow("Split at necks deeper than", self.split)
        form.addRow("Background", self.background)
        layout.addLayout(form)
        layout.addWidget(self.hint)
        layout.addWidget(self.table)

    def _connect(self) -> None:
        session = self._session
        for spin in (self.specks, self.holes, self.split):
            spin.valueChanged.connect(self._on_settings)
        self.background.currentIndexChanged.connect(self._on_settings)
        self.on.toggled.connect(self._on_switch)
        self._timer.timeout.connect(self._refine)
        self._runner.batch.connect(self._on_batch)
        self._runner.failed.connect(session.fail)
        self._runner.ended.connect(self._on_ended)
        session.closing.connect(lambda: self._runner.close(1.0))
        session.layers.current_changed.connect(self._on_image)
        session.layers.segmented.connect(self._on_predicted)
        session.layers.predicted.connect(self._on_predicted)
        session.state.events.classes.connect(self._list_classes)

    def settings(self) -> Refinement:
        """Return what the form says, whether or not it is switched on."""
        return self._session.settings.refinement

    def active(self) -> Refinement:
        """Return what is done to a segmentation now: nothing while it is switched off."""
        return self.settings() if self.on.isChecked() else Refinement()

    # Reactions

    def _on_predicted(self, plane: Plane) -> None:
        """Refine what is predicted, when a moment has passed without another part of it."""
        if plane == self._plane:
            self._refine_soon()

    def _on_settings(self) -> None:
        background = self.background.currentText() if self.background.currentIndex() > 0 else None
        self._session.settings = self._session.settings.replace(
            refinement=Refinement(
                specks=self.specks.value(),
                holes=self.holes.value(),
                instances=True,
                split=self.split.value(),
                background=background,
            )
        )
        self._refine_soon()

    def _on_switch(self, on: bool) -> None:
        if on:
            self._refine()
        else:
            self._timer.stop()
            self._again = self._waits = False
            self._session.layers.remove_refined()
            self.table.clear()
        self._render()

    def _on_image(self) -> None:
        plane = self._session.layers.current()
        if plane != self._plane:
            self._plane = plane
            self.table.clear()
            # They show one plane, and would lie over every slice of a stack.
            self._session.layers.remove_refined()
            self._refine_soon()
        self._render()

    def _refine_soon(self) -> None:
        if self.on.isChecked():
            self._timer.start()

    def _refine(self) -> None:
        session = self._session
        plane = session.layers.current()
        if plane is None or session.closed or not self.on.isChecked():
            return
        labels = session.layers.segmentation_of(plane)
        if labels is None:
            self._render()
            return
        if self._runner.running:
            # What is being worked on is out of date; its end starts the next.
            self._again = True
            self._runner.stop()
            return
        classes = session.state.classes if session.state.segmenter is None else class_table(session.state.segmenter)
        self._planes = {plane.name: plane}
        self._waits = True
        certainty = session.keeper.certainty_of(plane.name)
        job = refine_job(session.engine, plane.name, labels, classes, self.settings(), certainty)
        self._runner.start(job, "AFFMAE refining")
        self._render()

    def _on_batch(self, events: tuple[object, ...]) -> None:
        for event in events:
            plane = self._planes.get(event.name) if isinstance(event, RefineDone) else None
            if plane is None or not isinstance(event, RefineDone) or self._again or not self.on.isChecked():
                continue
            # Another slice or image may be looked at by now, and be the one that is accepted from.
            if plane == self._plane and plane.layer in self._session.layers.images():
                self._session.layers.show_refined(plane, event.refined, event.classes)
                self.table.show_objects(plane, event.refined.table, event.classes)
                self._by_shape = event.by_shape and self.settings().split > 0
                # The worker's end is heard later, on a busy machine much later.
                self._waits = False
                self._render()

    def _on_ended(self) -> None:
        self._waits = False
        if self._again:
            self._again = False
            self._refine()
        self._render()

    def _list_classes(self) -> None:
        chosen = self.settings().background
        names = [info.name for info in self._session.state.classes]
        self.background.blockSignals(True)
        self.background.clear()
        self.background.addItems([_AUTOMATIC, *names])
        self.background.setCurrentIndex(names.index(chosen) + 1 if chosen in names else 0)
        self.background.blockSignals(False)
        if chosen is not None and chosen not in names:
            self._on_settings()

    def _render(self) -> None:
        plane = self._plane
        hint = ""
        if self._waits:
            hint = "Refining …"
        elif self.on.isChecked() and (plane is None or self._session.layers.segmentation_of(plane) is None):
            hint = "Segment the image first; it is refined as soon as there is something to refine."
        elif self.on.isChecked() and self.table.objects:
            hint = f"{count(len(self.table.objects), 'object')} in this image"
            if self._by_shape:
                hint += (
                    ", told apart by shape alone, as how sure this prediction is was not kept. “Segment image” counts like "
                    "“Apply to all”."
                )
            else:
                hint += ". “Apply to all” refines every image like this."
        set_note(self.hint, hint)


def _pixels(value: int) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(0, 10_000_000)
    spin.setSuffix(" px")
    spin.setSpecialValueText("none")
    spin.setSingleStep(10)
    spin.setValue(value)
    return spin
