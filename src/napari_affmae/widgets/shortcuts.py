"""Keys for painting and for going through images, bound on our layers and on the viewer while the dock is open.

They are keys that napari leaves free on a labels layer. (It ignores key bindings in a plugin's manifest.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .hide_overlays import HiddenOverlays
from .kinds import KIND, Kind

if TYPE_CHECKING:
    from napari.layers import Labels

    from .label_step import LabelStep
    from .session import Session

CLASS_KEYS = 9
STEP = 1.25
"""Factor between brush sizes."""

HELP = (
    "On the paint: W and S choose the class above or below, Ctrl+1 … Ctrl+9 a class by its place; A and D make the brush "
    "smaller or larger; Ctrl+Z undoes strokes, and classes removed or merged. N and Shift+N open the next or previous image, "
    "G and Shift+G go to the next or previous suggested place, Q accepts regions, and H hides all overlays while it is held."
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
        self._bind(viewer, "G", lambda _: step.next.places.step(1))
        self._bind(viewer, "Shift-G", lambda _: step.next.places.step(-1))
        self._bind(viewer, "Q", lambda _: self._accept())
        self._hidden = HiddenOverlays(session.layers)
        self._bind_held(viewer, "H", self._hidden.hide, self._hidden.show)
        session.layers.overlay_added.connect(self._bind_paint)
        session.closing.connect(self.release, max_args=0)

    def release(self) -> None:
        """Unbind all keys, and follow napari's controls no longer."""
        self._hidden.show()
        for layer in self._session.layers.paint_layers().values():
            layer.events.selected_label.disconnect(self._on_label)
            layer.events.brush_size.disconnect(self._on_brush)
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
        layer.events.selected_label.connect(self._on_label)
        layer.events.brush_size.connect(self._on_brush)

    def _on_label(self, event: Any) -> None:
        self._step.panel.select_id(int(event.source.selected_label))

    def _on_brush(self, event: Any) -> None:
        self._step.show_brush(int(event.source.brush_size))

    def _resize(self, factor: float) -> None:
        size = self._step.brush.value()
        larger = max(round(size * factor), size + 1)
        self._step.brush.setValue(larger if factor > 1 else min(round(size * factor), size - 1))

    def _accept(self) -> None:
        """Do what the button does, or say why that makes no sense now."""
        button = self._step.next.accept
        if button.isEnabled():
            self._step.next.tool.toggle()
        else:
            self._session.say(button.toolTip())

    def _bind_held(self, provider: Any, key: str, press: Callable[[], None], release: Callable[[], None]) -> None:
        """Bind a key that does one thing when it is pressed and another when it is released."""

        def act(target: Any) -> Iterator[None]:
            press()
            yield
            release()

        self._take(provider, key, act)

    def _bind(self, provider: Any, key: str, function: Callable[..., None]) -> None:
        """Bind a key; it stays with whoever has bound it on this very layer or viewer before."""

        def act(target: Any) -> None:
            function(target)

        self._take(provider, key, act)

    def _take(self, provider: Any, key: str, act: Callable[[Any], Any]) -> None:
        try:
            provider.bind_key(key, act)
        except ValueError:
            return
        self._bound.append((provider, key, act))
