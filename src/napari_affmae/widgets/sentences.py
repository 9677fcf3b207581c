"""A label for sentences, which no long name makes wider than its place."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTextBoundaryFinder
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget


class Sentences(QLabel):
    """Text that wraps and can be copied; what no line has room for is shortened in its middle, and whole in the tooltip.

    Qt breaks lines between words, and in paths after a slash. A name without any such place would be cut off at the edge, or
    move the form aside to show its end.
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

    def _fit(self) -> None:
        room = self.contentsRect().width() - 2 * self.margin() - max(self.indent(), 0)
        shown = "".join(self._shortened(piece, room) for piece in _pieces(self._text))
        if shown != super().text():
            super().setText(shown)
            self.setToolTip(self._text if shown != self._text else "")

    def _shortened(self, piece: str, room: int) -> str:
        word = piece.rstrip()
        return self.fontMetrics().elidedText(word, Qt.TextElideMode.ElideMiddle, room) + piece[len(word) :]


def _pieces(text: str) -> list[str]:
    """Return what Qt keeps on a line."""
    finder = QTextBoundaryFinder(QTextBoundaryFinder.BoundaryType.Line, text)
    ends = []
    while (end := finder.toNextBoundary()) >= 0:
        ends.append(end)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
