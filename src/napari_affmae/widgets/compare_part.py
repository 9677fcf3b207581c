"""A part of step 3 that answers whether pretraining helped: one button, and one sentence when it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ..events import Done, PartBegun, Progress
from ..words import sentence
from .forms import JobBar, note, row, set_live, set_note
from .jobs import compare_job
from .state import Phase, why_not_compare, why_not_stop

if TYPE_CHECKING:
    from .session import Session


class ComparePart(QWidget):
    """Trains the pretrained network and a fresh one on the paint, each for the minutes of a training."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.begin = QPushButton("Did pretraining help?")
        self.stop = QPushButton("Stop")
        self.bar = JobBar("tiles")
        self.verdict = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(self.begin, self.stop))
        layout.addWidget(self.bar)
        layout.addWidget(self.verdict)
        self.begin.clicked.connect(self._begin)
        self.stop.clicked.connect(session.stop)
        session.event.connect(self._on_event)
        session.job_ended.connect(self._on_job_ended)
        session.state.events.connect(self._render)
        self._render()

    def _begin(self) -> None:
        session = self._session
        model, material = session.state.pretrained, session.training_material()
        if model is None or material is None:
            return
        paint, classes = material
        run = session.new_run("compare")
        if run is None:
            return
        self.bar.start()
        set_note(self.verdict, "")
        session.start("compare", compare_job(session.engine, model.path, paint, run, session.settings.training(), classes))

    def _on_event(self, event: object) -> None:
        if self._session.state.job != "compare":
            return
        if isinstance(event, Progress):
            self.bar.show_fraction(event.fraction, f"{event.fraction:.0%} of both trainings")
        elif isinstance(event, PartBegun) and self._session.state.phase is Phase.RUNNING:
            self._session.say(sentence(f"{event.what} …"))
        elif isinstance(event, Done) and event.result is not None:
            alone = "Both networks were trained for this alone: neither is the one in use."
            set_note(self.verdict, f"{event.result.verdict} {alone}")
            self._session.inform("Both networks are compared: step 3 says whether pretraining helped.")
        elif isinstance(event, Done):
            self._session.say("Stopped comparing; there is no verdict.")

    def _on_job_ended(self, name: str) -> None:
        if name == "compare":
            self.bar.setVisible(False)

    def _render(self) -> None:
        state = self._session.state
        minutes = self._session.settings.train_minutes
        set_live(
            self.begin,
            why_not_compare(state),
            f"Train the pretrained network and a fresh one on your paint, {minutes:g} min each, and score both on a part of it",
        )
        self.stop.setVisible(state.job == "compare")
        set_live(self.stop, why_not_stop(state, "compare"), "End without an answer")
