"""What few people change about training and segmenting, folded away in step 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QWidget

from ..config import Views
from .forms import form_layout, step_layout
from .section import Section
from .settings_store import DockSettings

if TYPE_CHECKING:
    from .session import Session

_AVERAGES = (("off", 0.0), ("about 10", 0.9), ("about 100", 0.99), ("about 1000", 0.999))
_VIEW_WORDS = {1: "1 – fastest", 8: "8 – slowest"}


class RecipeSection(Section):
    """How *Train* learns beyond its time, and how carefully images are segmented. Its heading counts what is not as usual."""

    def __init__(self, session: Session) -> None:
        self._session = session
        settings = session.settings
        self.deform = _strength(1.0, 0.1, settings.deform)
        self.deform.setToolTip(
            "Turn, stretch and bend half of the training tiles at random, up to 1: little paint then teaches more. "
            "Switch it off where the direction or the size of things tells classes apart."
        )
        self.focus = _strength(5.0, 0.5, settings.focus)
        self.focus.setToolTip(
            "Let pixels count less that the network knows already, up to 5; 2 is usual. "
            "Wrong strokes are difficult pixels as well: with careless paint leave it off."
        )
        self.average = QComboBox()
        for words, value in _AVERAGES:
            self.average.addItem(words, value)
        if self.average.findData(settings.average) < 0:
            self.average.addItem(f"{settings.average:g} kept", settings.average)
        self.average.setCurrentIndex(self.average.findData(settings.average))
        self.average.setToolTip(
            "Keep the mean of the network over its last steps, not the network as the last step left it: steadier. "
            "Choose fewer steps than the training has."
        )
        self.views = QComboBox()
        for count in get_args(Views):
            self.views.addItem(_VIEW_WORDS.get(count, str(count)), count)
        self.views.setCurrentIndex(self.views.findData(settings.views))
        self.views.setToolTip(
            "Segment so many mirrored and turned views of each tile and take their mean: a little better, and so many times "
            "slower. For “Segment” and “Apply to all”; Live always takes one."
        )
        content = QWidget()
        layout = step_layout(content)
        form = form_layout()
        form.addRow("Stretch and turn tiles", self.deform)
        form.addRow("Favour difficult pixels", self.focus)
        form.addRow("Average over steps", self.average)
        form.addRow("Average over views", self.views)
        layout.addLayout(form)
        super().__init__("More settings", content)
        for spin in (self.deform, self.focus):
            spin.valueChanged.connect(self._remember)
        for box in (self.average, self.views):
            box.currentIndexChanged.connect(self._remember)
        self._sum_up()

    def _remember(self) -> None:
        self._session.settings = self._session.settings.replace(
            deform=self.deform.value(),
            focus=self.focus.value(),
            average=self.average.currentData(),
            views=self.views.currentData(),
        )
        self._sum_up()

    def _sum_up(self) -> None:
        settings, usual = self._session.settings, DockSettings()
        changed = sum(getattr(settings, name) != getattr(usual, name) for name in ("deform", "focus", "average", "views"))
        self.set_summary(f"{changed} changed" if changed else "")


def _strength(most: float, step: float, value: float) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setRange(0, most)
    spin.setSingleStep(step)
    spin.setDecimals(2)
    spin.setSpecialValueText("off")
    spin.setValue(value)
    return spin
