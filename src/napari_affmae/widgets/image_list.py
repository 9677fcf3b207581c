"""The images of the collection as a list, each with a picture of how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from ..data.project_folder import ImageState, ProjectFile
from ..data.records import ImageRecord
from .state import count

SIDE = 14
STATES: dict[ImageState, str] = {
    "unlabelled": "unlabelled",
    "painted": "painted",
    "predicted": "predicted",
    "accepted": "accepted",
}
"""The states of an image, in words."""

_COLORS: dict[ImageState, str] = {
    "unlabelled": "#8a8d93",
    "painted": "#e69f00",
    "predicted": "#56b4e9",
    "accepted": "#2fa56f",
}


class ImageList(QListWidget):
    """Image names with state icons; a click asks for an image."""

    wanted = Signal(object)
    """The :class:`ImageRecord` that was clicked."""

    def __init__(self) -> None:
        super().__init__()
        self._icons = {state: state_icon(state) for state in STATES}
        self._shown: tuple[ImageState, ...] = ()
        self.setFixedHeight(140)
        self.setIconSize(QSize(SIDE, SIDE))
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        # Only then Qt shortens a name that is too long.
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.setToolTip("Click an image to open it as a layer")
        self.itemClicked.connect(self._ask)
        self.itemActivated.connect(self._ask)

    def show_records(self, records: Sequence[ImageRecord], project: ProjectFile) -> None:
        """List the images."""
        self.clear()
        self._shown = ()
        for record in records:
            item = QListWidgetItem(record.name)
            item.setData(Qt.ItemDataRole.UserRole, record)
            self.addItem(item)
        self.show_states(project)

    def show_states(self, project: ProjectFile) -> None:
        """Show how far each image is."""
        records = [self.item(row).data(Qt.ItemDataRole.UserRole) for row in range(self.count())]
        states = tuple(project.state(record.name) for record in records)
        if len(self._shown) != len(states):
            self._shown = (None,) * len(states)  # type: ignore[assignment]
        for row, (record, state) in enumerate(zip(records, states, strict=True)):
            if state != self._shown[row]:
                size = f"{record.height} × {record.width}, {count(record.channels, 'channel')}, {record.dtype}"
                self.item(row).setIcon(self._icons[state])
                self.item(row).setToolTip(f"{record.name} – {STATES[state]}\n{size}")
                self.item(row).setData(Qt.ItemDataRole.AccessibleTextRole, f"{record.name}, {STATES[state]}")
        self._shown = states

    def show_current(self, place: int | None) -> None:
        """Mark the image that is open."""
        if place is not None and place < self.count() and place != self.currentRow():
            self.setCurrentRow(place)
            self.scrollToItem(self.item(place))

    def describe(self) -> str:
        """Say how many images are how far, for example ``"1 accepted, 2 painted, 17 unlabelled"``."""
        counts = Counter(self._shown)
        order: tuple[ImageState, ...] = ("accepted", "predicted", "painted", "unlabelled")
        return ", ".join(f"{counts[state]} {STATES[state]}" for state in order if counts[state])

    def _ask(self, item: QListWidgetItem) -> None:
        self.wanted.emit(item.data(Qt.ItemDataRole.UserRole))


def state_icon(state: ImageState) -> QIcon:
    """Draw a state, told apart by shape and not by colour alone: a ring, a half disc, a disc, a disc with a tick."""
    scale = 4
    pixmap = QPixmap(SIDE * scale, SIDE * scale)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(scale, scale)
    color = QColor(_COLORS[state])
    ring = QRectF(2, 2, SIDE - 4, SIDE - 4)
    painter.setPen(QPen(color, 1.5))
    if state in ("predicted", "accepted"):
        painter.setBrush(color)
    painter.drawEllipse(ring)
    if state == "painted":
        painter.setBrush(color)
        painter.drawPie(ring, 90 * 16, 180 * 16)
    if state == "accepted":
        painter.setPen(QPen(QColor("white"), 1.6))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF([QPointF(4.4, 7.2), QPointF(6.3, 9.2), QPointF(9.8, 5.1)]))
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # Qt would tint it
    return icon
