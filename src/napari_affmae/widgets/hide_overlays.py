"""Hides all overlays while a key is held, so that the image itself is seen, and brings them back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    from napari.layers import Layer

    from .layers import OverlayLayers


class HiddenOverlays:
    """Overlays that are out of sight for a while.

    They become transparent instead of invisible: napari takes the brush out of the hand of a layer that it hides. Whoever holds
    the key may go to another window, which then hears that it is released; so losing the focus counts as releasing it.
    """

    def __init__(self, layers: OverlayLayers) -> None:
        self._layers = layers
        self._opacities: dict[Layer, float] = {}
        self.held = False

    def hide(self) -> None:
        """Hide what is there; harmless while it is hidden."""
        application = QApplication.instance()
        if self.held or not isinstance(application, QApplication):
            return
        self.held = True
        for layer in self._layers.overlays():
            self._hide(layer)
        self._layers.overlay_added.connect(self._hide)
        application.focusChanged.connect(self._on_focus)
        application.applicationStateChanged.connect(self._on_state)

    def show(self) -> None:
        """Bring back what was hidden and is still there; harmless while nothing is."""
        if not self.held:
            return
        self.held = False
        self._layers.overlay_added.disconnect(self._hide)
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.focusChanged.disconnect(self._on_focus)
            application.applicationStateChanged.disconnect(self._on_state)
        for layer, opacity in self._opacities.items():
            # Somebody may have chosen another opacity meanwhile.
            if layer.opacity == 0:
                layer.opacity = opacity
        self._opacities.clear()

    def _hide(self, layer: Layer) -> None:
        if layer not in self._opacities:
            self._opacities[layer] = layer.opacity
            layer.opacity = 0

    def _on_focus(self, old: Any = None, new: Any = None) -> None:
        self.show()

    def _on_state(self, state: Any) -> None:
        if state != Qt.ApplicationState.ApplicationActive:
            self.show()
