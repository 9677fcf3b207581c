"""How many objects of each class there are, and how large they are; the whole list can be saved."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QFileDialog, QHeaderView, QPushButton, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from ..card import ClassInfo, PixelSize
from ..data.plane_names import split_name
from ..data.stem import without_suffix
from ..errors import cannot_write
from ..words import area, thousands
from .placement import pixel_size_of

if TYPE_CHECKING:
    from .plane import Plane
    from .session import Session

_SIGNS = {"nanometer": "nm²", "micrometer": "µm²", "millimeter": "mm²"}

_NAMES_ALIGNED = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_ALIGNED = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
"""Where the names of classes and the numbers stand in their columns."""


class ObjectTable(QWidget):
    """A row per class with count, median and total area of its objects; hidden while there is nothing to show.

    Attributes
    ----------
    objects
        The objects shown, as :class:`~napari_affmae.engine.refine.Instance`.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.objects: tuple[Any, ...] = ()
        self._classes: tuple[ClassInfo, ...] = ()
        self._size: PixelSize | None = None
        self._name = ""
        self.grid = QTableWidget(0, 4)
        self.grid.setHorizontalHeaderLabels(["Class", "Objects", "Median area", "Total area"])
        for column in range(4):
            self.grid.horizontalHeaderItem(column).setTextAlignment(_ALIGNED if column else _NAMES_ALIGNED)
        self.grid.verticalHeader().setVisible(False)
        self.grid.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.grid.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.grid.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.grid.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.grid.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.save = QPushButton("Save the list of objects …")
        self.save.setToolTip("Write class, area and centre of every object as CSV")
        self.save.clicked.connect(self._save)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.grid)
        layout.addWidget(self.save)
        self.setVisible(False)

    def clear(self) -> None:
        """Show nothing."""
        self.objects = ()
        self.setVisible(False)

    def show_objects(self, plane: Plane, objects: Sequence[Any], classes: Sequence[ClassInfo]) -> None:
        """Sum up the objects of a plane, in physical units if the size of its pixels is known."""
        self.objects, self._classes = tuple(objects), tuple(classes)
        self._name, self._size = plane.name, pixel_size_of(plane.layer)
        areas = {info.id: [one.pixels for one in objects if one.class_id == info.id] for info in classes}
        shown = [info for info in classes if areas[info.id]]
        self.grid.setRowCount(len(shown))
        for row, info in enumerate(shown):
            pixels = areas[info.id]
            cells = (info.name, thousands(len(pixels)), self._area(median(pixels)), self._area(sum(pixels)))
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                if column == 0:
                    item.setData(Qt.ItemDataRole.DecorationRole, QColor(info.color))
                else:
                    item.setTextAlignment(_ALIGNED)
                self.grid.setItem(row, column, item)
        self.grid.resizeRowsToContents()
        height = self.grid.horizontalHeader().sizeHint().height() + sum(self.grid.rowHeight(row) for row in range(len(shown)))
        self.grid.setFixedHeight(height + 2 * self.grid.frameWidth())
        self.setVisible(bool(shown))

    def _area(self, pixels: float) -> str:
        if self._size is None:
            return f"{thousands(round(pixels))} px"
        return f"{area(pixels * self._size.y * self._size.x)} {_SIGNS[self._size.unit]}"

    def _save(self) -> None:
        start = str(self._session.project / file_name_of(self._name))
        path, _ = QFileDialog.getSaveFileName(self, "Save the list of objects", start, "Tables (*.csv)")
        if not path:
            return
        names = {info.id: info.name for info in self._classes}
        factor, unit = (None, "") if self._size is None else (self._size.y * self._size.x, f"{self._size.unit}^2")
        try:
            with Path(path).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("image", "instance", "class_id", "class", "pixels", "area", "area_unit", "row", "column"))
                for one in self.objects:
                    area = "" if factor is None else f"{one.pixels * factor:.6g}"
                    place = f"{one.row:.2f}", f"{one.column:.2f}"
                    writer.writerow((self._name, one.number, one.class_id, names[one.class_id], one.pixels, area, unit, *place))
        except OSError as error:
            self._session.fail(cannot_write(Path(path), error))
            return
        self._session.say(f"Saved {len(self.objects)} objects as {path}.")


def file_name_of(image: str) -> str:
    """Return what the list of objects of an image, or of one plane of a stack, is called unless the user says otherwise."""
    stack, index = split_name(image)
    return "_".join((Path(without_suffix(stack)).name, *map(str, index), "objects.csv"))
