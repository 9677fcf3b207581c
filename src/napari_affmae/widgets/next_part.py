"""The part of step 3 that says where to paint next: the uncertainty, places to go to, and predictions turned into paint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QListWidget, QPushButton, QWidget

from ..events import Progress
from .accept_tool import AcceptTool
from .forms import SPACING, JobBar, note, row, set_live, set_note, step_layout
from .kinds import KIND, PREDICTIONS
from .places import Places
from .state import count, why_not_accept, why_not_stop, why_not_suggest
from .suggest_job import SuggestDone, Unsure, suggest_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer

    from .session import Session

_ROWS = 5
"""Places that the list shows without scrolling."""


class NextPart(QWidget):
    """Where to paint next."""

    def __init__(self, session: Session, rescale: Callable[[], bool]) -> None:
        super().__init__()
        self._session = session
        self._rescale = rescale
        self.places = Places(session)
        self.tool = AcceptTool(session)
        self.uncertainty = QCheckBox("Show where the prediction is unsure")
        self.uncertainty.setChecked(session.settings.uncertainty)
        self.uncertainty.setToolTip("From transparent, where it is sure, to magenta, where all classes are as likely")
        self.suggest = QPushButton("Suggest places")
        self.stop = QPushButton("Stop")
        self.bar = JobBar("places")
        self.previous, self.next = QPushButton("◀"), QPushButton("▶")
        for button, words, key in ((self.previous, "Previous place", "Shift+G"), (self.next, "Next place", "G")):
            button.setFixedWidth(32)
            button.setAccessibleName(words)
            button.setToolTip(f"{words} ({key})")
        self.place = QLabel()
        self.place.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.place.setTextFormat(Qt.TextFormat.PlainText)
        self._listed: tuple[object, ...] | None = None
        self.list = QListWidget()
        self.list.setAccessibleName("Suggested places")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.steps = QWidget()
        self.hint = note()
        self.accept = QPushButton("Accept regions")
        self.accept.setCheckable(True)
        self._lay_out()
        self._connect()
        self._on_uncertainty(self.uncertainty.isChecked())
        self._show_places()

    def _lay_out(self) -> None:
        steps = QHBoxLayout(self.steps)
        steps.setContentsMargins(0, 0, 0, 0)
        steps.setSpacing(SPACING)
        steps.addWidget(self.previous)
        steps.addWidget(self.place, 1)
        steps.addWidget(self.next)
        layout = step_layout(self)
        layout.addWidget(self.uncertainty)
        layout.addLayout(row(self.suggest, self.stop))
        layout.addWidget(self.bar)
        layout.addWidget(self.steps)
        layout.addWidget(self.list)
        layout.addWidget(self.hint)
        layout.addWidget(self.accept)

    def _connect(self) -> None:
        session = self._session
        self.uncertainty.toggled.connect(self._on_uncertainty)
        self.suggest.clicked.connect(self._suggest)
        self.stop.clicked.connect(session.stop)
        self.previous.clicked.connect(lambda: self.places.step(-1))
        self.next.clicked.connect(lambda: self.places.step(1))
        self.list.currentRowChanged.connect(self._on_row)
        self.places.changed.connect(self._show_places)
        self.accept.clicked.connect(self.tool.toggle)
        self.accept.clicked.connect(self._render)
        self.tool.changed.connect(self._render)
        session.event.connect(self._on_event)
        session.job_ended.connect(self._on_job_ended)
        session.state.events.connect(self._render)
        session.layers.current_changed.connect(self._render)
        session.layers.overlay_added.connect(self._on_overlay)
        session.layers.uncertainty_known.connect(self._render)
        session.closing.connect(self._close, max_args=0)

    # What the user does

    def _on_uncertainty(self, shown: bool) -> None:
        session = self._session
        session.settings = session.settings.replace(uncertainty=shown)
        session.layers.want_uncertainty(shown)
        self._render()

    def _on_row(self, number: int) -> None:
        if number >= 0:
            self.places.go(number)

    def _suggest(self) -> None:
        session = self._session
        model = session.state.pretrained or session.state.segmenter
        if model is None:
            return
        unsure = [Unsure(plane.record(), values, step) for plane, values, step in session.layers.uncertain_planes()]
        set_note(self.hint, "")
        self.bar.start()
        job = suggest_job(
            session.engine, model.path, unsure, session.painted_examples(), session.settings.device, self._rescale()
        )
        session.start("suggest", job)

    # Reactions

    def _on_overlay(self, layer: Layer) -> None:
        """Hear when a prediction is hidden, and when it is shown again."""
        if layer.metadata[KIND] in PREDICTIONS:
            layer.events.visible.connect(self._render)
        self._render()

    def _close(self) -> None:
        for layer in self._session.layers.overlays():
            if layer.metadata[KIND] in PREDICTIONS:
                layer.events.visible.disconnect(self._render)

    def _on_event(self, event: object) -> None:
        if self._session.state.job != "suggest":
            return
        if isinstance(event, Progress):
            self.bar.show_fraction(event.fraction, f"{event.fraction:.0%}")
        elif isinstance(event, SuggestDone):
            self.places.show(event.suggestions)
            if event.suggestions.places:
                self._session.say("Here is the first place to paint. G leads to the next one.")
            else:
                set_note(self.hint, "No place to suggest: the prediction is sure wherever nothing is painted.")

    def _on_job_ended(self, name: str) -> None:
        if name == "suggest":
            self.bar.setVisible(False)
            self._render()

    def _show_places(self) -> None:
        places = self.places
        self.list.blockSignals(True)
        if places.all is not self._listed:
            self._listed = places.all
            self.list.clear()
            for number, place in enumerate(places.all, start=1):
                self.list.addItem(f"{number}   {place.image}   {place.uncertainty:.0%} unsure, {place.unlike:.0%} new")
                self.list.item(number - 1).setToolTip(
                    f"Row {place.row}, column {place.column}: {place.uncertainty:.0%} unsure of its class, "
                    f"{place.unlike:.0%} unlike what is painted and the places above"
                )
        self.list.setCurrentRow(-1 if places.current is None else places.current)
        self.list.blockSignals(False)
        rows = min(len(places.all), _ROWS)
        self.list.setFixedHeight(rows * max(self.list.sizeHintForRow(0), 1) + 2 * self.list.frameWidth())
        all_places = count(len(places.all), "place")
        self.place.setText(all_places if places.current is None else f"Place {places.current + 1} of {len(places.all)}")
        for widget in (self.steps, self.list):
            widget.setVisible(bool(places.all))
        self._render()

    def _render(self) -> None:
        session = self._session
        state = session.state
        plane = session.layers.current()
        is_known = session.layers.has_uncertainty()
        set_live(
            self.suggest,
            why_not_suggest(state, is_known),
            "Find places where the prediction is unsure and the image unlike what is painted, in all images segmented so far",
        )
        set_live(self.stop, why_not_stop(state, "suggest"), "End the search")
        is_predicted = plane is not None and session.layers.shown_prediction(plane) is not None
        set_live(
            self.accept,
            None if self.tool.active else why_not_accept(state, is_predicted),
            "Turn predicted regions into paint, where nothing is painted: click one, or draw a line around several (Q)",
        )
        self.accept.setChecked(self.tool.active)
