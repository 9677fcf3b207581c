"""Removing and merging classes, in all images at once, so that one undo brings back the class and its paint.

napari undoes strokes, one layer at a time. A change of classes goes through all layers, and through the paint of images that
are not open; it is kept beside napari's history, with the number of strokes that each layer had seen, so that undo takes back
strokes and changes of classes in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ..card import ClassInfo
from .kinds import KIND, Kind
from .project_writer import Places, ProjectWriter
from .state import with_lost

if TYPE_CHECKING:
    from napari.layers import Labels

    from ..data.project_folder import ImageEntry
    from .keeper import ProjectKeeper
    from .layers import OverlayLayers
    from .state import LoopState


@dataclass
class ClassEdit:
    """One change: the paint of ``source`` became ``target`` (0: not labelled).

    ``places`` says where that was, in images that are ``closed`` as soon as the saving thread has been there.
    """

    source: ClassInfo
    target: int
    before: tuple[ClassInfo, ...]
    places: Places = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    depth: dict[int, int] = field(default_factory=dict)

    def describe(self) -> str:
        """Say what was done, after “Undo”."""
        if self.target:
            into = next((info.name for info in self.before if info.id == self.target), "")
            return f"merging “{self.source.name}” into “{into}”"
        return f"removing “{self.source.name}”"


class ClassEdits:
    """The changes of classes that can be undone in this session.

    Signals
    -------
    changed()
        Something can be undone now, or not any more.
    said(str)
        What was undone, or done again, for people.
    """

    changed = Signal()
    said = Signal(str)

    def __init__(self, state: LoopState, layers: OverlayLayers, keeper: ProjectKeeper) -> None:
        self._state = state
        self._layers = layers
        self._keeper = keeper
        self._done: list[ClassEdit] = []
        self._undone: list[ClassEdit] = []
        self._strokes: dict[int, int] = {}
        layers.overlay_added.connect(self._watch)

    @property
    def last(self) -> ClassEdit | None:
        """What would be undone next."""
        return self._done[-1] if self._done else None

    @property
    def taken(self) -> tuple[ClassInfo, ...]:
        """Classes that undo or redo can bring back."""
        return tuple(edit.source for edit in (*self._done, *self._undone))

    def remove(self, info: ClassInfo) -> None:
        """Take a class out of the table; its paint becomes not labelled."""
        self._undone.clear()
        self._apply(ClassEdit(info, 0, self._state.classes))

    def merge(self, info: ClassInfo, into: ClassInfo) -> None:
        """Give the paint of a class to another one, and take it out of the table."""
        self._undone.clear()
        self._apply(ClassEdit(info, into.id, self._state.classes))

    def forget(self) -> None:
        """Start over: the paint is another one."""
        self._done.clear()
        self._undone.clear()
        self.changed.emit()

    def undo_edit(self) -> None:
        """Take back the last change of classes, whatever was painted since; that stays as it is."""
        if not self._done:
            return
        from ..data.label_array import relabel

        edit = self._done.pop()
        target, source = edit.target, edit.source.id
        classes = tuple(info for info in self._state.classes if info.id != source or not _is_makeshift(info))
        if source not in {info.id for info in classes}:
            self._state.classes = _put_back(classes, edit)
        opened = self._open()
        for where, layer in opened.items():
            places = edit.places.get(where)  # whoever opened it waited for the saving thread
            if places is not None and len(places) and int(places[-1]) < layer.data.size:
                relabel(layer.data, target, source, places)
                layer.refresh()
        closed = (edit.closed | edit.places.keys()) - opened.keys()

        def restore(writer: ProjectWriter) -> None:
            writer.restore({where: edit.places[where] for where in closed if where in edit.places}, source, target)

        self._in_closed(restore, closed)
        self._undone.append(edit)
        self.said.emit(f"Undone: {edit.describe()}.")
        self.changed.emit()

    def undo(self, layer: Labels) -> None:
        """Undo the last stroke on a layer, or the change of classes that came after it."""
        edit = self.last
        if edit is not None and self._strokes.get(id(layer), 0) <= edit.depth.get(id(layer), 0):
            self.undo_edit()
        elif _does_something(layer, layer.undo):
            self._strokes[id(layer)] = max(self._strokes.get(id(layer), 0) - 1, 0)
        else:
            self.undo_edit()

    def redo(self, layer: Labels) -> None:
        """Redo what was undone last on a layer, or the change of classes."""
        edit = self._undone[-1] if self._undone else None
        if edit is not None and self._strokes.get(id(layer), 0) == edit.depth.get(id(layer), 0):
            self._apply(self._undone.pop())
            self.said.emit(f"Done again: {edit.describe()}.")
        elif _does_something(layer, layer.redo):
            self._strokes[id(layer)] = self._strokes.get(id(layer), 0) + 1

    def close(self) -> None:
        """Stop listening to paint layers."""
        for layer in self._layers.paint_layers().values():
            layer.events.paint.disconnect(self._on_stroke)

    # Plumbing

    def _apply(self, edit: ClassEdit) -> None:
        from ..data.label_array import relabel

        source, target = edit.source.id, edit.target
        opened = self._open()
        edit.places = {where: relabel(layer.data, source, target) for where, layer in opened.items()}
        for where, layer in opened.items():
            if len(edit.places[where]):
                layer.refresh()
        edit.depth = {id(layer): self._strokes.get(id(layer), 0) for layer in opened.values()}
        edit.closed = frozenset(
            entry.labels
            for entry in self._keeper.file.images.values()
            if entry.pixels.get(source) and entry.labels not in opened
        )
        self._in_closed(lambda writer: edit.places.update(writer.relabel(sorted(edit.closed), source, target)), edit.closed)
        self._state.classes = tuple(info for info in self._state.classes if info.id != source)
        self._done.append(edit)
        self.changed.emit()

    def _in_closed(self, work: Callable[[ProjectWriter], None], wheres: Any) -> None:
        """Change the paint of images that are not open, and count it anew."""
        if not wheres:
            return
        file = self._keeper.file

        def change(writer: ProjectWriter) -> dict[str, ImageEntry]:
            work(writer)
            return writer.counted(file, wheres)

        def take(entries: dict[str, ImageEntry]) -> None:
            self._keeper.update(images={**self._keeper.file.images, **entries})

        self._keeper.run(change, take)

    def _open(self) -> dict[str, Labels]:
        return {self._keeper.file.labels_of(group): layer for group, layer in self._layers.paint_layers().items()}

    def _watch(self, layer: Labels) -> None:
        if layer.metadata.get(KIND) != Kind.PAINT:
            return
        self._strokes[id(layer)] = 0
        layer.events.paint.connect(self._on_stroke)

    def _on_stroke(self, event: Any) -> None:
        self._strokes[id(event.source)] += 1
        self._undone.clear()


def _put_back(classes: tuple[ClassInfo, ...], edit: ClassEdit) -> tuple[ClassInfo, ...]:
    """Return the table with the class where it stood."""
    place = min([info.id for info in edit.before].index(edit.source.id), len(classes))
    source = edit.source
    if any(info.name == source.name for info in classes):
        source = source.replace(name=f"{source.name} (label {source.id})")
    return (*classes[:place], source, *classes[place:])


def _is_makeshift(info: ClassInfo) -> bool:
    """Whether a class is only there because its label was painted, though no class had it."""
    return info.name == with_lost((), {info.id})[0].name


def _does_something(layer: Labels, action: Callable[[], None]) -> bool:
    """Call napari's undo or redo, and return whether there was anything to do: then it draws the layer anew."""
    drawn: list[object] = []
    layer.events.set_data.connect(drawn.append)
    try:
        action()
    finally:
        layer.events.set_data.disconnect(drawn.append)
    return bool(drawn)
