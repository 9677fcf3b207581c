"""The button that holds training still, lets it go on, and goes on with the last run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton

from .forms import set_live
from .project import LastRun, last_run
from .state import Phase, is_paused, why_not_pause, why_not_resume

if TYPE_CHECKING:
    from .session import Session


class PauseButton(QPushButton):
    """*Pause* while the job of its step runs, *Resume* while it is held still or where the last run was cut short.

    Parameters
    ----------
    job
        What the step does.
    lengthens
        Whether a last run that came to its end can be given more time, by *Train longer*.

    Signals
    -------
    take_up(last_run)
        A :class:`~napari_affmae.widgets.project.LastRun` is to go on.
    """

    take_up = Signal(object)

    def __init__(self, session: Session, job: Literal["pretrain", "finetune"], *, lengthens: bool = False) -> None:
        super().__init__("Pause")
        self._session = session
        self._job = job
        self._lengthens = lengthens
        self.clicked.connect(self._on_click)
        session.state.events.connect(self._render)
        session.state.events.source.connect(self.refresh)
        session.project_opened.connect(self.refresh)
        session.job_ended.connect(self._on_job_ended)
        self.refresh()

    def _on_job_ended(self, name: str) -> None:
        if name == self._job:
            self.refresh()

    def refresh(self) -> LastRun | None:
        """Look for a run in the project folder that can go on, and return it."""
        state = self._session.state
        found = last_run(self._session.project, self._job)
        if found is not None and found.is_over and not self._lengthens:
            found = None
        others = {job: run for job, run in state.last_runs.items() if job != self._job}
        state.last_runs = others if found is None else {**others, self._job: found}
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
                session.warn("the run is not in the project any more")
            else:
                self.take_up.emit(found)

    def _render(self) -> None:
        state, job = self._session.state, self._job
        last = state.last_runs.get(job) if state.idle else None
        if last is not None:
            name = last.run.name
            self.setText("Train longer" if last.is_over else "Resume")
            if last.is_over:
                what = f"Give {name}, which is finished, the time above once more; its other settings stay"
            else:
                what = f"Take up the interrupted run {name}, with its own settings and time"
            set_live(self, why_not_resume(state, job), what)
        elif is_paused(state, job):
            self.setText("Resume")
            set_live(self, None, "Go on")
        else:
            self.setText("Pause")
            set_live(self, why_not_pause(state, job), "Hold still after the current step")
