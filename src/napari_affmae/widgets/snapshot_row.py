"""Snapshots of labels and model: take one, go back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QMenu, QPushButton, QWidget

from ..data.snapshots import Snapshot, restore_snapshot, snapshots, take_snapshot
from .forms import SPACING, set_live
from .state import why_not_scan

if TYPE_CHECKING:
    from pathlib import Path

    from .session import Session

MOST = 20
"""Snapshots in the menu; older ones stay in the project folder."""


class SnapshotRow(QWidget):
    """Two buttons side by side."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.take = QPushButton("Take snapshot")
        self.back = QPushButton("Go back to")
        self.menu = QMenu(self.back)
        self.back.setMenu(self.menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING)
        layout.addWidget(self.take, 1)
        layout.addWidget(self.back, 1)
        self.take.clicked.connect(self._take)
        self.menu.aboutToShow.connect(self.fill_menu)
        session.state.events.connect(self.render_state)
        session.keeper.changed.connect(self.render_state)
        self.render_state()

    def fill_menu(self) -> None:
        """List the snapshots, newest first."""
        self.menu.clear()
        for one in snapshots(self._session.project)[:MOST]:
            self.menu.addAction(one.describe()).triggered.connect(lambda _=False, one=one: self._restore(one))
        if not self.menu.actions():
            self.menu.addAction("There is no snapshot yet").setEnabled(False)

    def _model(self) -> Path | None:
        model = self._session.state.segmenter
        return model.path if model is not None and model.path.is_file() else None

    def _take(self) -> None:
        model = self._model()
        self._session.keeper.run(lambda writer: take_snapshot(writer.folder, model), self._taken)

    def _taken(self, snapshot: Snapshot) -> None:
        self._session.say(f"Snapshot taken: {snapshot.describe()}.")
        self.render_state()

    def _restore(self, snapshot: Snapshot) -> None:
        model = self._model()
        self._session.keeper.run(
            lambda writer: restore_snapshot(writer.folder, snapshot, model),
            lambda _: self._restored(snapshot),
            alone=True,
        )

    def _restored(self, snapshot: Snapshot) -> None:
        self._session.reload_project()
        self._session.say(f"Back at {snapshot.describe()}. What was there before is a snapshot, too.")

    def render_state(self) -> None:
        """Show what can be done."""
        session = self._session
        nothing = None if session.keeper.file.images else "There is nothing to keep yet: paint something."
        set_live(self.take, nothing, "Keep labels, classes and model as they are now")
        busy = why_not_scan(session.state)
        set_live(self.back, busy or nothing, "Go back to the labels, classes and model of a snapshot")
