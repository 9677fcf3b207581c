"""The suggested places of a project: which one is looked at, and the way to the others, in other images too."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from ..data.suggestions import KeptSuggestions, Suggestions
from ..errors import ModelFileError
from .jobs import ModelRead

if TYPE_CHECKING:
    from ..data.suggestions import Place
    from .plane import Plane
    from .session import Session
    from .state import ModelOnDisk


class Places:
    """Suggested places, in order.

    Signals
    -------
    changed()
        There are others, or another one is looked at.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wanted = False
        self.all: tuple[Place, ...] = ()
        self.side = 1
        self.current: int | None = None
        session.opener.opened.connect(self._on_opened)
        session.project_opened.connect(self._take_up)
        session.event.connect(self._on_event)

    def show(self, suggestions: Suggestions) -> None:
        """Take over new suggestions, keep them with the project, and go to the first."""
        model = self._session.state.model
        kept = None
        if suggestions.places and model is not None:
            with suppress(ModelFileError):
                kept = KeptSuggestions(
                    suggestions=suggestions, model=self._where(model.path), fingerprint=self._fingerprint(model.path)
                )
        self._session.keeper.update(suggested=kept)
        self._set(suggestions)
        if self.all:
            self.go(0)

    def _take_up(self) -> None:
        """Show what the project has kept: a place does not go stale because the network was trained on it."""
        kept = self._session.keeper.file.suggested
        self._set(None if kept is None else kept.suggestions)

    def _on_event(self, event: object) -> None:
        """Forget the places of one network when another one is loaded."""
        kept = self._session.keeper.file.suggested
        if kept is None or not isinstance(event, ModelRead) or not event.model.is_segmenter:
            return
        if not self._is_descendant(event.model, kept):
            self._session.keeper.update(suggested=None)
            self._set(None)

    def _is_descendant(self, model: ModelOnDisk, kept: KeptSuggestions) -> bool:
        """Whether a network is the one that was unsure, or has learned since: the same file, or a run of the project."""
        return (
            self._where(model.path) == kept.model
            or model.path.is_relative_to(self._session.project)
            or model.card.fingerprint() == kept.fingerprint
        )

    def _set(self, suggestions: Suggestions | None) -> None:
        self._session.layers.remove_suggestions()
        self.all, self.current = (), None
        if suggestions is not None:
            self.all, self.side = suggestions.places, suggestions.side
        self._draw()
        self.changed.emit()

    def _fingerprint(self, path: Path) -> str:
        """Return that of the file: live mode may have written it again since it was read."""
        return self._session.engine.read_model(path).card.fingerprint()

    def _where(self, path: Path) -> str:
        project = self._session.project
        return path.relative_to(project).as_posix() if path.is_relative_to(project) else str(path)

    def step(self, step: int) -> None:
        """Go to the next (1) or the previous (-1) place, around the ends."""
        if not self.all:
            self._session.say("There are no suggested places yet: press “Suggest places” in step 3.")
        elif self.current is None:
            self.go(0 if step > 0 else len(self.all) - 1)
        else:
            self.go((self.current + step) % len(self.all))

    def go(self, number: int) -> None:
        """Look at a place, in whatever image it is."""
        session = self._session
        place = self.all[number]
        self.current = number
        self.changed.emit()
        here = session.layers.current()
        plane = session.layers.plane_named(place.image)
        self._wanted = True
        if plane is not None and here is not None and plane.layer is here.layer and plane.layer.visible:
            self._arrive(plane)
            return
        records = session.state.images.records if session.state.images is not None else ()
        record = next((one for one in records if one.name == place.image), None)
        if record is not None:
            session.opener.open(record)
        elif plane is not None and session.layers.show_stack(plane.group, plane.index, ()):
            self._arrive(plane)
        else:
            self._wanted = False
            session.say(f"{place.image} is not open any more: open it again, or look for new places.")

    def _on_opened(self, painting: bool) -> None:
        plane = self._session.layers.current()
        if self._wanted and self.current is not None and plane is not None and plane.name == self.all[self.current].image:
            self._arrive(plane)
        elif self.all:
            self._draw()

    def _arrive(self, plane: Plane) -> None:
        self._wanted = False
        self._draw()
        if self.current is not None:
            place = self.all[self.current]
            self._session.layers.go_to(plane, place.row, place.column, self.side)

    def _draw(self) -> None:
        """Draw the rings of all images that are open."""
        layers = self._session.layers
        rings: dict[str, tuple[Plane, list[tuple[int, tuple[int, ...], int, int]]]] = {}
        for number, place in enumerate(self.all):
            plane = layers.plane_named(place.image)
            if plane is not None:
                rings.setdefault(plane.group, (plane, []))[1].append((number, plane.index, place.row, place.column))
        for plane, places in rings.values():
            layers.show_suggestions(plane, places, self.side, self.current)
