"""A model's card as a window: facts, loss curves, scores as bars."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QFrame,
    QLabel,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from ..model_report import ModelReport, ScoreReport, TrainingReport
from ..report_text import as_text
from .forms import ScrollArea, form_layout, note
from .loss_curve import LossCurve

SIZE = (520, 680)


class CardDialog(QDialog):
    """What a model file says about itself.

    Parameters
    ----------
    found
        The report.
    theme
        Name of the napari theme, for the curves.
    """

    def __init__(self, found: ModelReport, theme: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found = found
        self.setWindowTitle(f"About {found.path.parent.name}/{found.path.name}")
        self.resize(*SIZE)
        self.curves: list[LossCurve] = []
        self.bars: list[QProgressBar] = []
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(12, 10, 12, 10)
        inner.setSpacing(8)
        inner.addWidget(heading(found.title))
        inner.addLayout(_facts(found.facts))
        for training in reversed(found.trainings):  # what was done last says most about what the model is now
            self._add_training(inner, training, theme)
        if not found.trainings:
            inner.addWidget(note("The file does not say what was done to it."))
        inner.addStretch(1)
        self.buttons = QDialogButtonBox()
        self.buttons.addButton("Close", QDialogButtonBox.ButtonRole.RejectRole)
        self.copy = self.buttons.addButton("Copy as text", QDialogButtonBox.ButtonRole.ActionRole)
        self.copy.clicked.connect(self._copy)
        self.buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 10, 10)
        layout.addWidget(ScrollArea(content), 1)
        layout.addWidget(self.buttons)

    def _add_training(self, layout: QVBoxLayout, training: TrainingReport, theme: str) -> None:
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout.addWidget(line)
        layout.addWidget(heading(training.title))
        if training.score is not None:
            self._add_score(layout, training.score)
        if training.steps:
            curve = LossCurve(training.unit)
            curve.use_theme(theme)
            for step, loss in zip(training.steps, training.losses, strict=True):
                curve.add(step, loss)
            curve.draw()
            self.curves.append(curve)
            layout.addWidget(curve)
        layout.addLayout(_facts(training.facts))

    def _add_score(self, layout: QVBoxLayout, score: ScoreReport) -> None:
        layout.addWidget(note(score.in_words()))
        form = form_layout()
        for name, value in score.iou.items():
            bar = QProgressBar()
            bar.setRange(0, 1000)
            bar.setValue(round(1000 * value))
            bar.setFormat(f"{value:.2f}")
            bar.setToolTip(f"Intersection over union of “{name}”: 1 is perfect, 0 is none right")
            self.bars.append(bar)
            form.addRow(name, bar)
        layout.addLayout(form)

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(as_text(self._found))


def heading(text: str) -> QLabel:
    """Return a bold line that wraps."""
    label = note(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def _facts(facts: Sequence[tuple[str, str]]) -> QFormLayout:
    form = form_layout()
    for name, value in facts:
        form.addRow(name.capitalize(), note(value))
    return form
