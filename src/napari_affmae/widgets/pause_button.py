"""The button that holds training still, lets it go on, and takes up a run that was cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton

from .forms import set_live
from .project import Interrupted, interrupted
from .state import Phase, is_paused, why_not_pause, why_not_resume

if TYPE_CHECKING:
    from .session import Session


class PauseButton(QPushButton):
    """*Pause* while the job of its step runs, *Resume* while it is held still or where a run of it was cut short.

    Signals
    -------
    take_up(interrupted)
        An :class:`~napari_affmae.widgets.project.Interrupted` run is to go on.
    """

    take_up = Signal(object)

    def __init__(self, session: Session, job: Literal["pretrain", "finetune"]) -> None:
        super().__init__("Pause")
        self._session = session
        self._job = job
        self.clicked.connect(self._on_click)
        session.state.events.connect(self._render)
        session.state.events.source.connect(self.refresh)
        session.project_opened.connect(self.refresh)
        session.job_ended.connect(self._on_job_ended)
        self.refresh()

    def _on_job_ended(self, name: str) -> None:
        if name == self._job:
            self.refresh()

    def refresh(self) -> Interrupted | None:
        """Look for an interrupted run in the project folder, and return it."""
        state = self._session.state
        found = interrupted(self._session.project, self._job)
        others = {job: run for job, run in state.interrupted.items() if job != self._job}
        state.interrupted = others if found is None else {**others, self._job: found.run}
        self._render()
        return found

    def _on_click(self) -> None:
        session = self._session
        if is_paused(session.state, self._job):
            session.resume()
        elif session.state.phase is Phase.RUNNING:
            session.pause()
        else:
            found = self.refresh()
            if found is None:
                session.warn("there is no interrupted run in the project any more")
            else:
                self.take_up.emit(found)

    def _render(self) -> None:
        state, job = self._session.state, self._job
        run = state.interrupted.get(job) if state.idle else None
        resumes = is_paused(state, job) or run is not None
        self.setText("Resume" if resumes else "Pause")
        if resumes:
            what = "Go on" if run is None else f"Take up the interrupted run {run.name}, with its own settings and time"
            set_live(self, why_not_resume(state, job), what)
        else:
            set_live(self, why_not_pause(state, job), "Hold still after the current step")
