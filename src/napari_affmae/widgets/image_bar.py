"""The image that is worked on: which one, how far it is, on to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget
from superqt import QElidingLabel

from ..data.plane_names import split_name
from .forms import SPACING, set_live
from .image_list import SIDE, STATES, state_icon
from .state import why_not_paint

if TYPE_CHECKING:
    from .session import Session


class ImageBar(QWidget):
    """Previous, the name and state of the current image, accept, next."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.previous = QPushButton("◀")
        self.next = QPushButton("▶")
        for button, words in ((self.previous, "Previous image"), (self.next, "Next image")):
            button.setFixedWidth(32)
            button.setAccessibleName(words)
        self.state = QLabel()
        self.state.setFixedWidth(SIDE + 2)
        self.name = QElidingLabel()
        self.name.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.name.setTextFormat(Qt.TextFormat.PlainText)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.accept = QPushButton("Accept")
        self.accept.setCheckable(True)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACING)
        layout.addWidget(self.previous)
        layout.addWidget(self.state)
        layout.addWidget(self.name, 1)
        layout.addWidget(self.accept)
        layout.addWidget(self.next)
        self._icons = {state: state_icon(state).pixmap(SIDE, SIDE) for state in STATES}
        self.previous.clicked.connect(lambda: session.opener.step(-1))
        self.next.clicked.connect(lambda: session.opener.step(1))
        self.accept.clicked.connect(self._accept)
        session.state.events.connect(self.render_state)
        session.keeper.changed.connect(self.render_state)
        self.render_state()

    def _accept(self) -> None:
        plane = self._session.layers.current()
        if plane is not None:
            accepted = self.accept.isChecked()
            self._session.keeper.accept(plane.name, plane.group, plane.index, accepted)
            self._session.say(f"{plane.name} is {'accepted: it counts as done' if accepted else 'not accepted any more'}.")

    def render_state(self) -> None:
        """Show the current image."""
        session = self._session
        image = session.state.image
        state = session.keeper.file.state(image.name) if image is not None else "unlabelled"
        place = session.opener.place()
        of = f"{place + 1} of {len(session.state.images)}: " if place is not None and session.state.images else ""
        stack, index = split_name(image.name) if image is not None else ("", ())
        if index:
            # Slices are counted from 0: a second number, from 1, would be another one.
            text = f"slice {','.join(map(str, index))} of {stack}"
        else:
            text = "No image is open" if image is None else f"{of}{image.name}"
        self.name.setText(text)
        size = "" if image is None else f"\n{image.height} × {image.width} – {STATES[state]}"
        self.name.setToolTip(text + size)
        self.state.setPixmap(self._icons[state])
        self.state.setToolTip("" if image is None else STATES[state].capitalize())
        set_live(self.previous, session.opener.why_not_step(-1), "Open the previous image (Shift+N)")
        set_live(self.next, session.opener.why_not_step(1), "Open the next image (N)")
        why_not = None if state != "unlabelled" else "Nothing is painted or segmented on this image yet."
        if image is None:
            why_not = why_not_paint(session.state)
        what = "its paint says all, without a segmentation" if state == "painted" else "its segmentation is good as it is"
        set_live(self.accept, why_not, f"Mark this image as done: {what}")
        self.accept.setChecked(state == "accepted")
