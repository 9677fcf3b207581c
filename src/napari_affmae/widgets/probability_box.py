"""The box that shows and hides the probability of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox

if TYPE_CHECKING:
    from .image_jobs import Segmented
    from .plane import Plane
    from .session import Session

_KEPT = 3
"""Planes whose probabilities are kept besides those that are seen; they are many times larger than the labels."""


@dataclass(frozen=True, eq=False)
class _Known:
    plane: Plane
    classes: Any
    probabilities: Any


class ProbabilityBox(QCheckBox):
    """Layers of the planes that are seen and whose segmentation is known with its probabilities."""

    def __init__(self, session: Session) -> None:
        super().__init__("Show the probability of each class")
        self._session = session
        self._known: dict[str, _Known] = {}
        self._shown: dict[str, _Known] | None = None
        self.setChecked(session.settings.probabilities)
        self.setToolTip(
            "A layer for each class of what was segmented since the dock was opened; one is seen at first, the layer list "
            "shows the others"
        )
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._show)
        self.toggled.connect(self._on_toggled)
        layers = session.layers
        layers.segmented.connect(self._on_segmented)
        layers.predicted.connect(self._on_predicted)
        layers.kept_removed.connect(self._on_removed)
        layers.current_changed.connect(self._show_soon)
        session.project_opened.connect(self._on_project_opened)
        session.closing.connect(self._on_closing)

    def _on_toggled(self, on: bool) -> None:
        self._show()
        if on and not self._shown:
            self._session.say("Segment the image to see how probable each class is.")

    def _on_segmented(self, plane: Plane, result: Segmented) -> None:
        self._known.pop(plane.name, None)
        if result.probabilities is not None:
            self._known[plane.name] = _Known(plane, result.classes, result.probabilities)
        seen = {one.name for one in self._session.layers.visible_planes()}
        for name in [name for name in self._known if name not in seen][:-_KEPT]:
            del self._known[name]
        self._show()

    def _on_predicted(self, plane: Plane) -> None:
        """Forget what live mode has replaced."""
        if self._known.pop(plane.name, None) is not None:
            self._show()

    def _on_removed(self, group: str) -> None:
        for name in [name for name, one in self._known.items() if one.plane.group == group]:
            del self._known[name]
        self._show_soon()

    def _show_soon(self) -> None:
        self._soon.start()

    def _on_project_opened(self) -> None:
        self._known.clear()
        self._show_soon()

    def _on_closing(self, timeout: float) -> None:
        self._soon.stop()

    def _show(self) -> None:
        """Let layers follow what is known of the planes that are seen, and the box."""
        layers = self._session.layers
        wanted = {}
        for plane in layers.visible_planes() if self.isChecked() else ():
            known = self._known.get(plane.name)
            if known is not None and known.plane == plane:
                wanted[plane.group] = known
        before, self._shown = self._shown, wanted
        if wanted == before or self._session.closed:
            return
        layers.remove_probabilities(but=wanted)
        for group, known in wanted.items():
            if before is None or before.get(group) is not known:
                layers.show_probabilities(known.plane, known.classes, known.probabilities)
