"""The live loss curve, in the colours of the napari theme."""

from __future__ import annotations

import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QVBoxLayout, QWidget

from .colors import mixed

MOST_POINTS = 600
FEW_POINTS = 20


class _WholeNumbers(pg.AxisItem):  # type: ignore[misc]  # pyqtgraph ships no types
    """An axis without ticks in between: there is no step 1.5."""

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:
        spacing = super().tickSpacing(minVal, maxVal, size)
        return [(step, offset) for step, offset in spacing if step >= 1] or [(1.0, 0.0)]


class LossCurve(QWidget):
    """Loss against steps. A long run is thinned, so that drawing never gets slower.

    Parameters
    ----------
    unit
        What the axis counts.
    """

    def __init__(self, unit: str = "step") -> None:
        super().__init__()
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._every = 1
        self._seen = 0
        self.plot = pg.PlotWidget(axisItems={"bottom": _WholeNumbers("bottom")})
        self.plot.setMenuEnabled(False)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.hideButtons()
        self.plot.setLabel("left", "loss")
        self.plot.setLabel("bottom", unit)
        self.plot.getAxis("left").enableAutoSIPrefix(False)
        self.plot.getAxis("bottom").enableAutoSIPrefix(False)
        self.plot.getAxis("left").setWidth(48)
        self.plot.getAxis("bottom").setHeight(38)
        # pyqtgraph lets the lower label and the upper half of the topmost number hang out of their axes, and the margin of the
        # plot would cut them off.
        self.plot.plotItem.layout.setContentsMargins(1, 8, 1, 6)
        self._curve = self.plot.plot([], [])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)
        self.setFixedHeight(146)
        self.setVisible(False)

    def clear(self) -> None:
        """Forget the run before."""
        self._steps, self._losses, self._every, self._seen = [], [], 1, 0
        self._curve.setData([], [])

    def add(self, step: int, loss: float) -> None:
        """Remember a step; :meth:`draw` shows it."""
        self._seen += 1
        if self._seen % self._every:
            return
        self._steps.append(step)
        self._losses.append(loss)
        if len(self._steps) > MOST_POINTS:
            self._steps, self._losses = self._steps[1::2], self._losses[1::2]
            self._every *= 2

    def draw(self) -> None:
        """Show what was added."""
        # A line through a few points is hard to see, or not there at all.
        self._curve.setData(self._steps, self._losses, symbol="o" if len(self._steps) < FEW_POINTS else None)
        self.setVisible(bool(self._steps))

    def points(self) -> tuple[list[int], list[float]]:
        """Return the steps and losses that are shown."""
        return self._steps, self._losses

    def use_theme(self, theme_id: str) -> None:
        """Take the colours of a napari theme."""
        theme = get_theme(theme_id)
        self.plot.setBackground(theme.background.as_hex("long"))
        for name in ("left", "bottom"):
            axis = self.plot.getAxis(name)
            axis.setPen(theme.secondary.as_hex("long"))
            axis.setTextPen(theme.text.as_hex("long"))
        # The theme's accent is made for backgrounds; half way to the text a thin line of it is seen on both themes.
        color = mixed(theme.current.as_hex("long"), theme.text.as_hex("long"))
        self._curve.setSymbolSize(5)
        self._curve.setSymbolPen(None)
        self._curve.setSymbolBrush(color)
        self._curve.setPen(pg.mkPen(color, width=2))
