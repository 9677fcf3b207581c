"""The overlays of images: how one is found, placed and listened to.

napari has no layer groups yet, so overlays are named after their image, ``<image> · <kind>``, and stand above it in the layer
list in a fixed order. (The image comes first because the list shortens long names in the middle.) They carry the image's scale,
translate, units and axis labels, and are updated in place when a job has something new.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from psygnal import Signal

from ..card import ClassInfo, PixelSize
from ..data.records import ImageRecord
from .kinds import CHANGED, GROUP, KEPT, KIND, LOOKS, PREVIEW_GROUP, PROJECT, REDRAWN, Kind
from .open_images import OpenImages, title
from .placement import Placement
from .plane import NAME, RECORD, UNSURE, Plane, for_display, grey_limits

if TYPE_CHECKING:
    from napari.components import ViewerModel


_RANK = {kind: rank for rank, kind in enumerate(Kind)}


class Overlays(OpenImages):
    """Images, paint and overlays of one viewer.

    Attributes
    ----------
    is_adding
        Whether an overlay is being put into the viewer, which for a moment selects it.

    Signals
    -------
    current_changed()
        Another image, or another plane of it, is worked on.
    painted()
        Paint changed, or an image that may have some came or went.
    paint_redrawn()
        Paint was drawn anew: it may have changed, or only been scrolled. Comes many times a second.
    tool_taken()
        The user took another tool on a paint layer: a brush, the bucket, the hand.
    paint_removed(Labels)
        A paint layer left the viewer; its data can still be saved.
    segmented(Plane, Segmented)
        A plane shows a new segmentation.
    predicted(Plane)
        Live mode changed parts of a plane's segmentation.
    image_left(str)
        An image left the viewer; the name that its overlays carry.
    kept_removed(str)
        Paint or segmentation of an image left the viewer; the name of the image.
    overlay_added(Layer)
        An overlay of any kind is in the viewer now.
    uncertainty_known()
        How unsure the prediction of an image is became known.
    """

    current_changed = Signal()
    painted = Signal()
    paint_redrawn = Signal()
    tool_taken = Signal()
    paint_removed = Signal(object)
    segmented = Signal(object, object)
    predicted = Signal(object)
    image_left = Signal(str)
    kept_removed = Signal(str)
    overlay_added = Signal(object)
    uncertainty_known = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self.is_adding = False
        # What is there already, an earlier dock has opened.
        self._made: WeakSet[Layer] = WeakSet(layer for layer in viewer.layers if RECORD in layer.metadata)
        self._comes_back = {*KEPT, Kind.SUGGESTIONS}
        viewer.layers.selection.events.active.connect(self._on_change)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._on_change)

    def disconnect(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        super().disconnect()
        self._viewer.layers.selection.events.active.disconnect(self._on_change)
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.current_step.disconnect(self._on_change)
        for layer in self._of_kind(Kind.PAINT):
            for name in CHANGED:
                layer.events[name].disconnect(self._on_painted)
            for name in REDRAWN:
                layer.events[name].disconnect(self._on_redrawn)
            layer.events.mode.disconnect(self._on_tool)

    # Images that are opened from the list

    def open_image(self, record: ImageRecord, pixels: npt.NDArray[Any]) -> None:
        """Show an image of the collection; hide the others that were opened this way, overlays included, and the preview."""
        found = [image for image in self.images() if image.metadata.get(RECORD) == record]
        hidden = {*self._opened_names(), PREVIEW_GROUP}
        for layer in self._viewer.layers:
            if RECORD in layer.metadata or layer.metadata.get(GROUP) in hidden:
                layer.visible = layer.metadata.get(GROUP) == record.name and layer.visible
        if found:
            layer = found[-1]
            self._bring_back(record.name)
        else:
            shown, rgb = for_display(pixels)
            layer = Image(shown, rgb=rgb, name=record.name, metadata={RECORD: record})
            limits = None if rgb else grey_limits(shown)
            if limits is not None:
                layer.contrast_limits = limits
            Placement.of_pixels(record.pixel_size).apply(layer)
            self._made.add(layer)
            self._viewer.layers.append(layer)
            # One of the user's that is called like it goes by another name from now on.
            for image in self.images():
                if Plane(image, ()).group == record.name:
                    self.settle(image)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        self._fill_view()

    def _fill_view(self) -> None:
        """Let what is seen fill the view; by itself, napari makes room for hidden layers, too."""
        seen = [layer for layer in self._viewer.layers if layer.visible]
        knows_choice = "layers" in signature(self._viewer.reset_view).parameters  # older ones do not
        self._viewer.reset_view(**({"layers": seen} if knows_choice else {}))

    def close_opened(self) -> None:
        """Remove images that were opened from the list, with their overlays, those whose image is gone, and the preview."""
        names = {*self._opened_names(), PREVIEW_GROUP}
        for layer in list(self._viewer.layers):
            if RECORD in layer.metadata or layer.metadata.get(GROUP) in names:
                self._viewer.layers.remove(layer)
        for layer in self.orphans():
            self._viewer.layers.remove(layer)

    def remove_orphans(self, groups: Collection[str]) -> set[str]:
        """Remove the overlays of images that have left, if they are still away, and return of which there were any."""
        left = [layer for layer in self.orphans() if layer.metadata[GROUP] in groups]
        for layer in left:
            self._viewer.layers.remove(layer)
        return {str(layer.metadata[GROUP]) for layer in left}

    def remove(self, layer: Layer) -> None:
        """Take an overlay out of the viewer."""
        self._viewer.layers.remove(layer)

    # Plumbing

    def _show_image(
        self, plane: Plane, kind: Kind, detail: str, data: npt.NDArray[np.float32], colormap: str | Colormap, **look: Any
    ) -> Image:
        layer = self._find(kind, plane.group, detail)
        if layer is None:
            layer = Image(data, colormap=colormap, **{"blending": "additive", **look})
            self._add(layer, kind, detail, plane.group, plane.placement())
        else:
            layer.data = data
            plane.placement().apply(layer)
        layer.contrast_limits = (0.0, max(float(data.max()), 1e-6))
        return layer

    def reveal(self, plane: Plane, layer: Layer) -> None:
        """Show a layer that was made hidden, if it is part of working on its image and that is seen."""
        layer.visible = plane.layer.visible and layer.metadata[KIND] in self._comes_back

    def _bring_back(self, group: str) -> None:
        """Show those overlays of an image that is seen again which are part of working on it."""
        for overlay in self._of_group(group):
            overlay.visible = overlay.metadata[KIND] in self._comes_back

    def _show_only(self, shown: Layer) -> None:
        """Show one look inside, if its image is seen, and hide the other overlays of the same image, so that none covers it."""
        group = shown.metadata[GROUP]
        for layer in self._of_group(group):
            layer.visible = layer is shown and (layer.visible or self._is_seen(group))

    def put_looks_away(self) -> None:
        """Hide looks inside, and show again what they have hidden: the images are worked on now."""
        for group in {layer.metadata[GROUP] for kind in LOOKS for layer in self._of_kind(kind)}:
            self._put_look_away(group)

    def _put_look_away(self, group: str) -> None:
        if any(layer.visible and layer.metadata[KIND] in LOOKS for layer in self._of_group(group)):
            self._bring_back(group)

    def _is_seen(self, group: str) -> bool:
        """Whether an image is seen; what lies on none, as the preview of pretraining, always is."""
        images = [image for image in self.images() if Plane(image, ()).group == group]
        return not images or any(image.visible for image in images)

    def _add(self, layer: Layer, kind: Kind, detail: str, group: str, placement: Placement) -> None:
        """Insert an overlay above its image and below the overlays of higher rank, hidden while its image is."""
        layer.visible = layer.visible and self._is_seen(group)
        layer.name = title(group, kind, detail)
        layer.metadata = {KIND: kind, GROUP: group, "detail": detail}
        self._made.add(layer)
        placement.apply(layer)
        for image in self.images():
            if RECORD not in image.metadata and Plane(image, ()).group == group:
                image.metadata[NAME] = group
        place = len(self._viewer.layers)
        for position, other in enumerate(self._viewer.layers):
            if self._belongs(other, group) and _RANK.get(other.metadata.get(KIND), -1) <= _RANK[kind]:
                place = position + 1
        selection = self._viewer.layers.selection
        active = selection.active
        self.is_adding = True
        try:
            # A new overlay must not take the brush out of the user's hand. Nobody hears that napari selects it meanwhile: the
            # window would make controls of both layers together, and show those of one and then the other.
            with selection.events.blocker_all() if active is not None else nullcontext():
                self._viewer.layers.insert(place, layer)
                if active is not None:
                    selection.active = active
        finally:
            self.is_adding = False
        self.overlay_added.emit(layer)

    def _listen(self, layer: Labels) -> None:
        for name in CHANGED:
            layer.events[name].connect(self._on_painted)
        for name in REDRAWN:
            layer.events[name].connect(self._on_redrawn)
        layer.events.mode.connect(self._on_tool)

    def _belongs(self, layer: Layer, group: str) -> bool:
        if KIND in layer.metadata:
            return bool(layer.metadata[GROUP] == group)
        return isinstance(layer, Image) and Plane(layer, ()).group == group

    def _free_corner(self, pixel_size: PixelSize | None) -> tuple[float, float]:
        """Return a place right of all layers, a little apart."""
        if not len(self._viewer.layers):
            return 0.0, 0.0
        low, high = self._viewer.layers.extent.world[:, -2:]
        gap = 8.0 * (pixel_size.x if pixel_size else 1.0)
        return float(low[0]), float(high[1]) + gap

    def _of_kind(self, kind: Kind) -> list[Any]:
        return [layer for layer in self._viewer.layers if layer.metadata.get(KIND) == kind]

    def _find(self, kind: Kind, group: str, detail: str = "") -> Any:
        for layer in self._of_kind(kind):
            if layer.metadata[GROUP] == group and layer.metadata["detail"] == detail:
                return layer
        return None

    def _on_change(self) -> None:
        self.current_changed.emit()

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        if (KIND in layer.metadata or RECORD in layer.metadata) and layer not in self._made:
            # What the user made of an overlay, or of an image that was opened from the list, is theirs.
            for key in (KIND, GROUP, PROJECT, "detail", RECORD, UNSURE):
                layer.metadata.pop(key, None)
        if isinstance(layer, Image) and KIND not in layer.metadata:
            self._take_in(layer)
            self.painted.emit()
        self.current_changed.emit()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        if isinstance(layer, Image) and KIND not in layer.metadata:
            self._unwatch(layer)
            self.painted.emit()
            self.image_left.emit(Plane(layer, ()).group)
        if layer.metadata.get(KIND) in KEPT:
            self.kept_removed.emit(str(layer.metadata[GROUP]))
        if layer.metadata.get(KIND) == Kind.PAINT:
            self.paint_removed.emit(layer)
            self.painted.emit()
        self.current_changed.emit()

    def _on_painted(self) -> None:
        self.painted.emit()

    def _on_tool(self) -> None:
        self.tool_taken.emit()

    def _on_redrawn(self) -> None:
        self.paint_redrawn.emit()


def class_colors(classes: Sequence[ClassInfo]) -> DirectLabelColormap:
    """Return the colours of a class table; whatever is not in it is transparent."""
    colors: Mapping[int | None, str] = {None: "transparent", 0: "transparent", **{info.id: info.color for info in classes}}
    return DirectLabelColormap(color_dict=dict(colors))
