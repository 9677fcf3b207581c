"""The class table with what can be done to classes: add, rename, recolour, merge, remove, and undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtWidgets import QMenu, QPushButton, QVBoxLayout, QWidget

from ..card import ClassInfo
from ..errors import LabelError
from .class_balance import few_pixels_warning, starved
from .class_ids import class_table
from .class_table import COLOR, NAME, ClassTable
from .forms import SPACING, note, row, set_live, set_note
from .state import add_class, edit_class

if TYPE_CHECKING:
    from .session import Session


class ClassPanel(QWidget):
    """Classes of the project."""

    changed = Signal()
    """The table was edited by the user."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.table = ClassTable()
        self.add = QPushButton("Add")
        self.merge = QPushButton("Merge")
        self.remove = QPushButton("Remove")
        self.undo = QPushButton("Undo")
        self.hint = note()
        self._menu = QMenu(self.merge)
        self._menu.setToolTipsVisible(True)
        self.merge.setMenu(self._menu)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING)
        layout.addWidget(self.table)
        layout.addLayout(row(self.add, self.merge, self.remove, self.undo))
        layout.addWidget(self.hint)
        self.table.edited.connect(self._edit)
        self.table.customContextMenuRequested.connect(self._show_menu)
        self.add.clicked.connect(self._add)
        self._menu.aboutToShow.connect(self._fill_menu)
        self.remove.clicked.connect(self._remove)
        self.undo.clicked.connect(session.class_edits.undo_edit)
        session.class_edits.changed.connect(self.render_state)
        session.state.events.connect(self.render_state)
        self.render_state()

    def select_id(self, class_id: int) -> None:
        """Select a class without taking the brush: napari's controls or a key chose it."""
        self.table.blockSignals(True)
        for place, info in enumerate(self._session.state.classes):
            if info.id == class_id:
                self.table.selectRow(place)
        self.table.blockSignals(False)

    def step(self, step: int) -> None:
        """Select the next (1) or the previous (-1) class, around the ends."""
        self.select_place((self.table.currentRow() + step) % max(self.table.rowCount(), 1))

    def select_place(self, place: int) -> None:
        """Select a class by its place from 0, if there is one."""
        if place < self.table.rowCount():
            self.table.selectRow(place)

    def _add(self) -> None:
        state = self._session.state
        # The network may still know a class that was removed: what it predicts as that one must not become the new one.
        known = () if state.segmenter is None else class_table(state.segmenter)
        try:
            state.classes = add_class(state.classes, (*known, *self._session.class_edits.taken))
        except LabelError as error:
            self._session.fail(error)
            return
        self.table.selectRow(self.table.rowCount() - 1)
        self._session.say(f"Added “{state.classes[-1].name}”: double-click the name to change it.")
        self.changed.emit()

    def _edit(self, place: int, name: str, color: str) -> None:
        try:
            self._session.state.classes = edit_class(self._session.state.classes, place, name, color)
        except LabelError as error:
            self._session.fail(error)
            self.table.restore()
        else:
            self._session.say(f"Changed “{self._session.state.classes[place].name}”.")
        self.changed.emit()

    def _remove(self) -> None:
        info = self.table.selected()
        if info is not None:
            self._session.class_edits.remove(info)
            self._session.say(f"Removed “{info.name}” and its paint. Undo brings both back.")
            self.changed.emit()

    def _merge(self, info: ClassInfo, into: ClassInfo) -> None:
        self.select_id(into.id)
        self._session.class_edits.merge(info, into)
        self._session.say(f"Merged “{info.name}” into “{into.name}”. Undo takes them apart again.")
        self.changed.emit()

    def _fill_menu(self) -> None:
        self._menu.clear()
        selected = self.table.selected()
        for info in self._session.state.classes:
            if selected is not None and info.id != selected.id:
                action = self._menu.addAction(info.name)
                action.triggered.connect(lambda _=False, source=selected, into=info: self._merge(source, into))

    def _show_menu(self, where: QPoint) -> None:
        if self.table.rowAt(where.y()) < 0:
            return
        menu = QMenu(self)
        menu.addAction("Rename").triggered.connect(lambda: self.table.editItem(self.table.item(self.table.currentRow(), NAME)))
        recolour = menu.addAction("Colour …")
        recolour.triggered.connect(lambda: self.table.cellDoubleClicked.emit(self.table.currentRow(), COLOR))
        if self.merge.isEnabled():
            self._fill_menu()
            into = menu.addMenu("Merge into")
            into.addActions(self._menu.actions())
            menu.addAction("Remove").triggered.connect(self._remove)
        menu.exec(self.table.viewport().mapToGlobal(where))
        menu.deleteLater()

    def render_state(self) -> None:
        """Show classes, pixels and warnings."""
        state, edits = self._session.state, self._session.class_edits
        self.table.show_classes(state.classes, state.painted, starved(state.classes, state.painted))
        set_note(self.hint, few_pixels_warning(state.classes, state.painted))
        enough = None if len(state.classes) > 2 else "A network needs two classes: add a third one first."
        set_live(self.add, None, "Add a class")
        set_live(self.merge, enough, "Give the paint of the selected class to another class, in all images")
        set_live(self.remove, enough, "Remove the selected class and its paint, in all images")
        last = edits.last
        what = "" if last is None else f"Undo {last.describe()}; Ctrl+Z on the paint does the same"
        set_live(self.undo, None if last is not None else "No class was removed or merged.", what)
