"""A label for sentences, which no long name makes wider than its place."""

from __future__ import annotations

import re

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

_PIECES = re.compile(r"[^\s/]+[\s/]*|[\s/]+")
"""Words and folders, with what is between them and the next one."""


class Sentences(QLabel):
    """Text that wraps and can be copied; what no line has room for is shortened in its middle, and whole in the tooltip.

    Lines are broken between words, and in paths after a slash. A longer name would be cut off at the edge, or move the form
    aside to show its end, and one that Qt breaks after its hyphens would push up what is above the text.
    """

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = ""
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setText(text)

    def text(self) -> str:
        """Return the whole text."""
        return self._text

    def setText(self, text: str | None) -> None:
        """Show a text."""
        self._text = text or ""
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shorten to the new width."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent | None) -> None:
        """Shorten to another font."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.FontChange:
            self._fit()

    def _fit(self) -> None:
        room = self.contentsRect().width() - 2 * self.margin() - max(self.indent(), 0)
        shown = "".join(self._shortened(piece, room) for piece in _PIECES.findall(self._text))
        if shown != super().text():
            super().setText(shown)
            self.setToolTip(self._text if shown != self._text else "")

    def _shortened(self, piece: str, room: int) -> str:
        word = piece.rstrip()
        return self.fontMetrics().elidedText(word, Qt.TextElideMode.ElideMiddle, room) + piece[len(word) :]
