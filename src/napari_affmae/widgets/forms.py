"""Small pieces that the four forms share."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from ..events import Progress
from ..words import count
from ..words import duration as duration
from .sentences import Sentences

SPACING = 6


def form_layout() -> QFormLayout:
    """Return an empty form whose fields share the width."""
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setSpacing(SPACING)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    return form


class ScrollArea(QScrollArea):
    """A frameless area in which something of any height scrolls up and down, always wide enough for it.

    Parameters
    ----------
    content
        What scrolls.
    narrowest
        Pixels that the area does not get narrower than, however little the content needs.
    """

    def __init__(self, content: QWidget, narrowest: int = 0) -> None:
        super().__init__()
        self._narrowest = narrowest
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:
        """Return the width of the content, the scroll bar, and the frame that napari's style gives it."""
        around = self.verticalScrollBar().sizeHint().width() + 2 * self.frameWidth()
        return QSize(max(self.widget().minimumSizeHint().width() + around, self._narrowest), super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Ask for room when the content needs more of it: another font, a longer text."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def step_layout(widget: QWidget) -> QVBoxLayout:
    """Give a step its outer layout."""
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(10, 7, 6, 10)
    layout.setSpacing(SPACING)
    return layout


def row(*widgets: QWidget) -> QHBoxLayout:
    """Put widgets side by side, equally wide."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(SPACING)
    for widget in widgets:
        layout.addWidget(widget, 1)
    return layout


def note(text: str = "") -> Sentences:
    """Return a label for sentences that takes no room while it is empty."""
    label = Sentences(text)
    label.setVisible(bool(text))
    return label


def set_note(label: Sentences, text: str) -> None:
    """Write a :func:`note`; an empty one disappears."""
    if label.text() != text:
        label.setText(text)
    label.setVisible(bool(text))


def set_live(button: QPushButton, why_not: str | None, what: str) -> None:
    """Enable a button, or disable it and let its tooltip say why."""
    button.setEnabled(why_not is None)
    button.setToolTip(why_not or what)


class PathField(QWidget):
    """A line for a path with a button that opens a dialog.

    Parameters
    ----------
    title
        Title of the dialog.
    placeholder
        Shown while the line is empty.
    """

    chosen = Signal(str)

    def __init__(self, title: str, placeholder: str = "") -> None:
        super().__init__()
        self._title = title
        self.line = QLineEdit()
        self.line.setPlaceholderText(placeholder)
        self.line.setClearButtonEnabled(True)
        self.button = QPushButton("…")
        self.button.setFixedWidth(32)
        self.button.setToolTip(title)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.button)
        self.setFocusProxy(self.line)
        self.button.clicked.connect(self._browse)
        self.line.editingFinished.connect(lambda: self.chosen.emit(self.text()))

    def text(self) -> str:
        """Return the path as typed, without blanks around it."""
        return str(self.line.text()).strip()

    def set_text(self, text: str) -> None:
        """Show a path; long ones show their end in the tooltip."""
        self.line.setText(text)
        self.line.setToolTip(text)

    def _browse(self) -> None:
        start = self.text() or str(Path.home())
        folder = QFileDialog.getExistingDirectory(self, self._title, start)
        if folder:
            self.set_text(folder)
            self.chosen.emit(folder)


class JobBar(QProgressBar):
    """A progress bar that shows how far a job is, how fast, and how long it will take.

    Attributes
    ----------
    shows_end
        Whether it shows the end of a run, and not how far one had come that failed.
    """

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit
        self.shows_end = False
        self._fraction = 0.0
        self._held = False
        self.setRange(0, 1000)
        self.setTextVisible(True)
        self.setVisible(False)

    def start(self) -> None:
        """Show that something is coming."""
        self._fraction = 0.0
        self.shows_end = False
        self.show_busy("starting …")

    def text(self) -> str:
        """Return what is written on the bar; Qt itself writes nothing while it is not known how far a job is."""
        return self.format() if self.maximum() == 0 else super().text()

    def hold(self, held: bool) -> None:
        """Say that the job is held still, whatever its last step still reports, or that it is no more."""
        if held != self._held:
            self._held = held
            self.show_fraction(self._fraction, f"{self._fraction:.0%}")

    def show_busy(self, text: str) -> None:
        """Show that something goes on, nobody knows for how long."""
        self.setRange(0, 0)
        self.setFormat(text)
        self.setVisible(True)

    def show_progress(self, progress: Progress) -> None:
        """Show the state of a job. While it is held still, time and speed mean nothing."""
        parts = [f"{progress.fraction:.0%}"]
        if progress.eta_seconds is not None:
            parts.append(f"{duration(progress.eta_seconds)} left")
        if progress.images_per_second > 0:
            parts.append(f"{progress.images_per_second:.1f} {self._unit}/s")
        self.show_fraction(progress.fraction, " · ".join(parts))

    def show_end(self, step: int, stopped: bool) -> None:
        """Show that a training run is over; one that was stopped stays where it was."""
        fraction = self._fraction if stopped else 1.0
        self.shows_end = True
        self.show_fraction(fraction, f"{'Stopped' if stopped else 'Finished'} after {count(step, 'step')}")

    def show_fraction(self, fraction: float, text: str) -> None:
        """Show a fraction from 0 to 1 and a text."""
        self._fraction = fraction
        self.show_part(fraction, f"Paused at {fraction:.0%}" if self._held else text)

    def show_part(self, fraction: float, text: str) -> None:
        """Show how far something is that comes after the last step; a run that was stopped goes back to where that was."""
        self.setRange(0, 1000)
        self.setValue(round(fraction * 1000))
        # Qt reads %p and %v in the format.
        self.setFormat(text.replace("%", "%%") if "%p" in text or "%v" in text else text)
        self.setVisible(True)
