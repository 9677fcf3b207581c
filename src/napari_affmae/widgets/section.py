"""A collapsible section with a heading that sums up its step."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Section(QFrame):
    """A heading that opens and closes the widget below it.

    Parameters
    ----------
    title
        The heading.
    content
        The widget to show and hide.
    """

    toggled = Signal(bool)

    def __init__(self, title: str, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self.content = content
        self.heading = QToolButton(self)
        self.heading.setCheckable(True)
        self.heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.heading.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.heading.setStyleSheet("QToolButton { font-weight: 600; text-align: left; border: none; padding: 5px 4px; }")
        self.heading.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.heading.setAccessibleName(title)
        self.heading.setObjectName("affmae-heading")
        self.heading.toggled.connect(self._show)
        content.setParent(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.heading)
        layout.addWidget(content)
        self.set_summary("")
        self._show(False)

    def open(self, shown: bool = True) -> None:
        """Open or close the section."""
        self.heading.setChecked(shown)

    def is_open(self) -> bool:
        """Whether the content is shown."""
        return bool(self.heading.isChecked())

    def set_summary(self, summary: str) -> None:
        """Write what the step has reached behind its title."""
        self.heading.setText(f"{self._title}  –  {summary}" if summary else self._title)

    def _show(self, shown: bool) -> None:
        self.content.setVisible(shown)
        self.heading.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.toggled.emit(shown)
