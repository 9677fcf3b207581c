"""The table of classes: colour, name, painted pixels. Knows nothing of layers or jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QColorDialog, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from ..card import ClassInfo
from .class_balance import is_background
from .state import thousands

COLOR, NAME, PIXELS = range(3)


class ClassTable(QTableWidget):
    """Rows of classes; a click selects one, a double click renames it or opens the colours."""

    class_selected = Signal(int)
    """Id of the class of the row that was selected."""
    edited = Signal(int, str, str)
    """Row, new name and new colour."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, 3, parent)
        self._classes: tuple[ClassInfo, ...] = ()
        self._painted: Mapping[int, int] = {}
        self.setHorizontalHeaderLabels(["", "Class", "Painted px"])
        for column, side in ((NAME, Qt.AlignmentFlag.AlignLeft), (PIXELS, Qt.AlignmentFlag.AlignRight)):
            self.horizontalHeaderItem(column).setTextAlignment(side | Qt.AlignmentFlag.AlignVCenter)
        self.verticalHeader().setVisible(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        self.horizontalHeader().setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        self.setColumnWidth(COLOR, 30)
        self.horizontalHeader().setSectionResizeMode(PIXELS, QHeaderView.ResizeMode.ResizeToContents)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.verticalHeader().setMinimumSectionSize(self.verticalHeader().defaultSectionSize())
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.setToolTip("Select a class to paint it; double-click to rename it or change its colour")
        self.cellChanged.connect(self._on_cell_changed)
        self.cellDoubleClicked.connect(self._on_double_click)
        self.itemSelectionChanged.connect(self._on_selected)

    def show_classes(
        self, classes: Sequence[ClassInfo], painted: Mapping[int, int], warnings: Mapping[int, str] | None = None
    ) -> None:
        """Show the classes, how many pixels of each are painted, and a sign beside those that have a warning.

        The selected class stays selected; if it is gone, the one in its place is.
        """
        row, selected = self.currentRow(), self.selected()
        self._painted = painted
        warnings = warnings or {}
        self.blockSignals(True)
        if tuple(classes) != self._classes:
            self._classes = tuple(classes)
            self.setRowCount(len(classes))
            for place, info in enumerate(classes):
                self._fill(place, info)
            ids = [info.id for info in classes]
            stays = selected is not None and selected.id in ids
            self.selectRow(ids.index(selected.id) if stays else min(max(row, 0), len(classes) - 1))
            self._fit_height()
        for place, info in enumerate(classes):
            warning = warnings.get(info.id, "")
            self.item(place, PIXELS).setText(("⚠ " if warning else "") + thousands(painted.get(info.id, 0)))
            self.item(place, PIXELS).setToolTip(warning)
        self.blockSignals(False)

    def selected(self) -> ClassInfo | None:
        """Return the class of the selected row."""
        row = self.currentRow()
        return self._classes[row] if 0 <= row < len(self._classes) else None

    def _fill(self, row: int, info: ClassInfo) -> None:
        color = QTableWidgetItem()
        swatch = QPixmap(16, 16)
        swatch.fill(QColor(info.color))
        icon = QIcon(swatch)
        icon.addPixmap(swatch, QIcon.Mode.Selected)  # Qt would tint it, and the colour is what it is for
        color.setIcon(icon)
        color.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
        color.setToolTip("Double-click to change the colour")
        name = QTableWidgetItem(info.name)
        what = "The background: what is none of the other classes. " if is_background(info) else ""
        name.setToolTip(f"{info.name}. {what}Label {info.id}; unpainted pixels are 0, not labelled. Double-click to rename")
        if is_background(info):
            font = name.font()
            font.setItalic(True)
            name.setFont(font)
        pixels = QTableWidgetItem()
        pixels.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
        pixels.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        for column, item in ((COLOR, color), (NAME, name), (PIXELS, pixels)):
            self.setItem(row, column, item)

    def _fit_height(self) -> None:
        """Show up to six rows without a scroll bar."""
        rows = min(max(len(self._classes), 2), 6)
        height = self.horizontalHeader().sizeHint().height() + rows * self.rowHeight(0)
        self.setFixedHeight(height + 2 * self.frameWidth() + 2)

    def updateGeometries(self) -> None:
        """Fit the height again: the font and napari's style, and with them the height of a row, come later or change."""
        super().updateGeometries()
        self._fit_height()

    def _on_selected(self) -> None:
        info = self.selected()
        if info is not None:
            self.class_selected.emit(info.id)

    def _on_cell_changed(self, row: int, column: int) -> None:
        if column == NAME:
            self.edited.emit(row, self.item(row, NAME).text(), self._classes[row].color)

    def _on_double_click(self, row: int, column: int) -> None:
        if column != COLOR:
            return
        info = self._classes[row]
        color = QColorDialog.getColor(QColor(info.color), self, f"Colour of {info.name}")
        if color.isValid():
            self.edited.emit(row, info.name, color.name())

    def restore(self) -> None:
        """Show the table again as it was, after an edit that was refused."""
        classes, self._classes = self._classes, ()
        self.show_classes(classes, self._painted)
