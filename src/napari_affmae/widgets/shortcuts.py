"""Keys for painting and for going through images, bound on our layers and on the viewer while the dock is open.

They are keys that napari leaves free on a labels layer. (It ignores key bindings in a plugin's manifest.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .overlays import KIND, Kind

if TYPE_CHECKING:
    from napari.layers import Labels

    from .label_step import LabelStep
    from .session import Session

CLASS_KEYS = 9
STEP = 1.25
"""Factor between brush sizes."""

HELP = (
    "On the paint: W and S choose the class above or below, Ctrl+1 … Ctrl+9 a class by its place; A and D make the brush "
    "smaller or larger; Ctrl+Z undoes strokes, and classes removed or merged. N and Shift+N open the next or previous image."
)


class Shortcuts:
    """Binds the keys and lets go of them."""

    def __init__(self, session: Session, step: LabelStep) -> None:
        self._session = session
        self._step = step
        self._bound: list[tuple[Any, str, Callable[[Any], None]]] = []
        viewer = session.viewer
        self._bind(viewer, "N", lambda _: session.opener.step(1))
        self._bind(viewer, "Shift-N", lambda _: session.opener.step(-1))
        session.layers.overlay_added.connect(self._bind_paint)

    def release(self) -> None:
        """Unbind all keys."""
        for provider, key, function in self._bound:
            if function in provider.keymap.values():
                provider.bind_key(key, None)
        self._bound.clear()

    def _bind_paint(self, layer: Labels) -> None:
        if layer.metadata.get(KIND) != Kind.PAINT:
            return
        panel, edits = self._step.panel, self._session.class_edits
        self._bind(layer, "W", lambda _: panel.step(-1))
        self._bind(layer, "S", lambda _: panel.step(1))
        self._bind(layer, "A", lambda _: self._resize(1 / STEP))
        self._bind(layer, "D", lambda _: self._resize(STEP))
        for place in range(CLASS_KEYS):
            self._bind(layer, f"Control-{place + 1}", lambda _, place=place: panel.select_place(place))
        self._bind(layer, "Control-Z", edits.undo)
        self._bind(layer, "Control-Shift-Z", edits.redo)
        layer.events.selected_label.connect(lambda: panel.select_id(int(layer.selected_label)))
        layer.events.brush_size.connect(lambda: self._step.show_brush(int(layer.brush_size)))

    def _resize(self, factor: float) -> None:
        size = self._step.brush.value()
        larger = max(round(size * factor), size + 1)
        self._step.brush.setValue(larger if factor > 1 else min(round(size * factor), size - 1))

    def _bind(self, provider: Any, key: str, function: Callable[..., None]) -> None:
        """Bind a key unless somebody has bound it on this very layer or viewer."""

        def act(target: Any) -> None:
            function(target)

        try:
            provider.bind_key(key, act)
        except ValueError:
            return
        self._bound.append((provider, key, act))
