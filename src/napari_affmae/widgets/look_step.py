"""Step 4: look inside the network at the current image: tokens, merge map, density, features as colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QPushButton, QWidget

from ..errors import ModelFileError
from .forms import JobBar, form_layout, note, row, set_live, set_note, step_layout
from .image_jobs import ImageDone, inspect_job
from .plane import Plane, full_resolution
from .state import DECODER, VIEWS, ModelOnDisk, first_of_all, thousands, why_not_look

if TYPE_CHECKING:
    from ..engine.inspect import Inspection, StageInspection
    from .session import Session

VIEW_NOTES = {VIEWS[0]: "every patch", VIEWS[3]: "fewest tokens", DECODER: "every patch"}

LARGEST_SIDE = 1536
"""Of a larger image, only so many pixels each way around the middle of the view are looked at: the engine takes no more."""

Key = tuple[str, tuple[int, int], Path, int, int]
"""What an inspection belongs to: image, corner, model file, its time of writing, identity of the pixels."""


class LookStep(QWidget):
    """The form of step 4."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._key: Key | None = None
        self._inspection: Inspection | None = None
        self._plane: Plane | None = None
        self._model: ModelOnDisk | None = None
        self._wanted: Callable[[], None] | None = None
        self.first = note()
        self.image_note = note()
        self.view = QComboBox()
        for name in VIEWS:
            self.view.addItem(f"{name} – {VIEW_NOTES[name]}" if name in VIEW_NOTES else name, name)
        self.view.setCurrentIndex(1)
        self.tokens = QPushButton("Token map")
        self.merge_map = QPushButton("Merge map")
        self.pca = QPushButton("PCA")
        self.density = QPushButton("Token density")
        self.bar = JobBar("images")
        self.figures = note()
        layout = step_layout(self)
        layout.addWidget(self.first)
        layout.addWidget(self.image_note)
        form = form_layout()
        form.addRow("Stage", self.view)
        layout.addLayout(form)
        layout.addLayout(row(self.tokens, self.merge_map))
        layout.addLayout(row(self.density, self.pca))
        layout.addWidget(self.bar)
        layout.addWidget(self.figures)
        self.view.currentIndexChanged.connect(self._render)
        self.tokens.clicked.connect(lambda: self._look(self._show_tokens))
        self.merge_map.clicked.connect(lambda: self._look(self._show_merge_map))
        self.density.clicked.connect(lambda: self._look(self._show_density))
        self.pca.clicked.connect(lambda: self._look(self._show_pca))
        session.event.connect(self._on_event)
        session.job_ended.connect(self._on_job_ended)
        session.state.events.connect(self._render)
        self._render()

    def _look(self, show: Callable[[], None]) -> None:
        """Show something of the current image, after running the network if it has not seen it yet."""
        session = self._session
        plane, model = session.layers.current(), session.state.model
        if plane is None or model is None:
            return
        part = plane.part_around(session.layers.view_centre(plane), LARGEST_SIDE)
        if part is not None:
            plane = replace(plane, corner=(part[0].start, part[1].start))
        try:
            written = model.path.stat().st_mtime_ns
        except OSError as error:
            why = error.strerror or error
            session.fail(ModelFileError(f"{model.path} cannot be read ({why}): load a network in step 2, or train again"))
            return
        key = (plane.name, plane.corner, model.path, written, id(full_resolution(plane.layer)))
        self._plane, self._model, self._wanted = plane, model, show
        if key == self._key and self._inspection is not None:
            show()
            return
        self._key, self._inspection = key, None
        session.layers.lay_down_brush()
        self.bar.start()
        session.start("inspect", inspect_job(session.engine, model.path, plane.record(), part, session.settings.device))

    def _on_event(self, event: object) -> None:
        if self._session.state.job == "inspect" and isinstance(event, ImageDone):
            self._inspection = event.result
            if self._wanted is not None and self._plane is not None and self._plane.layer in self._session.layers.images():
                self._wanted()
            self._session.say(f"Looked inside at {event.name}.")

    def _on_job_ended(self, name: str) -> None:
        if name == "inspect":
            self.bar.setVisible(False)
            self._render()

    def _stage(self) -> StageInspection | None:
        view = self.view.currentData()
        if self._inspection is None:
            return None
        return next((stage for stage in self._inspection.stages if stage.name == view), None)

    def _is_named(self) -> bool:
        """Whether what was looked at last is what the form names: the current plane, and the network in use."""
        plane, looked_at = self._session.layers.current(), self._plane
        if plane is None or looked_at is None:
            return False
        return replace(plane, corner=looked_at.corner) == looked_at and self._session.state.model == self._model

    def _show_tokens(self) -> None:
        stage = self._stage()
        if stage is not None and self._plane is not None:
            self._session.layers.show_tokens(self._plane, stage)
            self._render()

    def _show_merge_map(self) -> None:
        stage = self._stage()
        if stage is not None and self._plane is not None:
            self._session.layers.show_merge_map(self._plane, stage)
            self._render()

    def _show_density(self) -> None:
        stage = self._stage()
        if stage is not None and self._plane is not None:
            self._session.layers.show_density(self._plane, stage)
            self._render()

    def _show_pca(self) -> None:
        if self._inspection is None or self._plane is None:
            return
        stage = self._stage()
        features = self._inspection.pca if stage is None else stage.pca
        self._session.layers.show_pca(self._plane, self.view.currentData(), features)
        self._render()

    def _render(self) -> None:
        state = self._session.state
        view = self.view.currentData()
        staged = why_not_look(state, view, needs_stage=True)
        set_live(self.tokens, staged, "Where the tokens of this stage sit, each as large as its area")
        set_live(self.merge_map, staged, "Which token owns each pixel")
        set_live(self.density, staged, "How densely the tokens lie")
        why_not = why_not_look(state, view, needs_stage=False)
        set_note(self.first, first_of_all(state, why_not))
        set_live(self.pca, why_not, "The three main components of the features as colours")
        image, model = state.image, state.model
        if image is None or model is None:
            set_note(self.image_note, "")
        else:
            set_note(self.image_note, f"{model.path.parent.name}/{model.path.name} at {image.name}")
        stage = self._stage()
        if stage is None or not self._is_named():
            set_note(self.figures, "")
        else:
            set_note(
                self.figures,
                f"{thousands(len(stage.positions_rc))} tokens, effective rank {stage.effective_rank:.1f} "
                f"({stage.effective_rank_normalised:.0%} of what is possible)",
            )
