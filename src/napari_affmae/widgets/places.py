"""The suggested places of a project: which one is looked at, and the way to the others, in other images too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from ..engine.suggest import Place, Suggestions
    from .plane import Plane
    from .session import Session


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

    def show(self, suggestions: Suggestions) -> None:
        """Take over new suggestions and go to the first."""
        self._session.layers.remove_suggestions()
        self.all, self.side, self.current = suggestions.places, suggestions.side, None
        self._draw()
        if self.all:
            self.go(0)
        else:
            self.changed.emit()

    def clear(self) -> None:
        """Forget all of them."""
        self._session.layers.remove_suggestions()
        self.all, self.current = (), None
        self.changed.emit()

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
