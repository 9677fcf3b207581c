"""The button that opens a model's card."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QPushButton

from ..errors import AffmaeError
from .forms import set_live

if TYPE_CHECKING:
    from .card_dialog import CardDialog
    from .session import Session
    from .state import LoopState, ModelOnDisk


class AboutButton(QPushButton):
    """Shows what a model is, what it was trained on and how good it is.

    Parameters
    ----------
    session
        The dock's session.
    which
        Chooses the model.
    """

    def __init__(self, session: Session, which: Callable[[LoopState], ModelOnDisk | None]) -> None:
        super().__init__("About this model …")
        self._session = session
        self._which = which
        self.dialog: CardDialog | None = None
        self.clicked.connect(self._open)
        session.closing.connect(self._close)
        session.state.events.connect(self._render)
        self._render()

    def _open(self) -> None:
        model = self._which(self._session.state)
        if model is None:
            return
        try:
            found = self._session.engine.model_report(model.path)
        except AffmaeError as error:
            self._session.fail(error)
            return
        from .card_dialog import CardDialog  # reads model files: loaded when somebody asks, not with the dock

        self._close()
        self.dialog = CardDialog(found, self._session.viewer.theme, self)
        self.dialog.show()

    def _close(self, timeout: float = 0) -> None:
        if self.dialog is not None:
            self.dialog.close()
            self.dialog.deleteLater()
            self.dialog = None

    def _render(self) -> None:
        there = self._which(self._session.state) is not None
        set_live(self, None if there else "There is no model yet.", "What it is, what it was trained on, how good it is")
