"""The images of a viewer and the overlays that belong to them: which is current, and how one is found, placed and listened to.

napari has no layer groups yet, so overlays are named after their image, ``<image> · <kind>``, and stand above it in the layer
list in a fixed order. (The image comes first because the list shortens long names in the middle.) They carry the image's scale,
translate, units and axis labels, and are updated in place when a job has something new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from psygnal import Signal

from ..card import ClassInfo, PixelSize
from ..data.records import ImageRecord
from .placement import Placement
from .plane import CHANNELS, NAME, RECORD, UNSURE, Plane, for_display, grey_limits, spatial_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel


KIND = "napari_affmae_kind"
GROUP = "napari_affmae_group"
PROJECT = "napari_affmae_project"
"""Keys in ``layer.metadata`` of an overlay: what it is, the name of its image, and the project folder that keeps it, if any."""

_PLANE = re.compile(r"(.*)\[(\d+(?:,\d+)*)\]")


PREVIEW_GROUP = "pretraining"
"""Stands in the place of an image's name on the overlays of a pretraining run."""


class Kind(StrEnum):
    """What an overlay shows; the order is the order in the layer list, bottom to top."""

    MASKED = "masked input"
    RECONSTRUCTION = "reconstruction"
    PCA = "PCA"
    DENSITY = "token density"
    MERGE_MAP = "merge map"
    PROBABILITY = "probability"
    SEGMENTATION = "segmentation"
    REFINED = "refined"
    INSTANCES = "objects"
    UNCERTAINTY = "uncertainty"
    TOKENS = "tokens"
    PAINT = "paint"
    SUGGESTIONS = "suggestions"
    OUTLINE = "outline"


CHANGED = ("paint", "data")
"""Events of a Labels layer that say that its data changed: a stroke has ended, or the array was replaced."""

REDRAWN = ("set_data", "labels_update")
"""Events that come with every other change, as napari has none of their own for them: undo and redo, an edit by a program
(whose ``paint`` comes before the data change) and ``refresh``. Scrolling through a stack causes them as well."""

_RANK = {kind: rank for rank, kind in enumerate(Kind)}
KEPT = (Kind.PAINT, Kind.SEGMENTATION)
"""Overlays that the project folder keeps."""
LOOKS = (Kind.PCA, Kind.DENSITY, Kind.MERGE_MAP, Kind.TOKENS)
"""Overlays that look inside the network. One is shown at a time, without the paint and the segmentation."""


class Overlays:
    """Images, paint and overlays of one viewer.

    Attributes
    ----------
    is_adding
        Whether an overlay is being put into the viewer, which for a moment selects it.
    known_as
        The name by which the project knows an image, if it does and the name is not among those that are taken.
    names_of_others
        Which names stand for other images than a given one, though those are not open.

    Signals
    -------
    current_changed()
        Another image, or another plane of it, is worked on.
    painted()
        Paint changed.
    paint_redrawn()
        Paint was drawn anew: it may have changed, or only been scrolled. Comes many times a second.
    tool_taken()
        The user took another tool on a paint layer: a brush, the bucket, the hand.
    paint_removed(Labels)
        A paint layer left the viewer; its data can still be saved.
    segmented(Plane, SegmentationResult)
        A plane shows a new segmentation.
    predicted(Plane)
        Live mode changed parts of a plane's segmentation.
    kept_removed(str)
        Paint or segmentation of an image left the viewer; the name of the image.
    told_apart(str, str)
        An image is called as another one that was painted before; and what it goes by here.
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
    kept_removed = Signal(str)
    told_apart = Signal(str, str)
    overlay_added = Signal(object)
    uncertainty_known = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._current: Image | None = None
        self.is_adding = False
        self.known_as: Callable[[Image, set[str]], str | None] = lambda image, taken: None
        self.names_of_others: Callable[[Image], set[str]] = lambda image: set()
        self._made: WeakSet[Layer] = WeakSet()
        self._comes_back = {*KEPT, Kind.SUGGESTIONS}
        viewer.layers.selection.events.active.connect(self._on_change)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._on_change)
        for image in self.images():
            self._watch(image)

    def disconnect(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        self._viewer.layers.selection.events.active.disconnect(self._on_change)
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.current_step.disconnect(self._on_change)
        for image in self.images():
            self._unwatch(image)
        for layer in self._of_kind(Kind.PAINT):
            for name in CHANGED:
                layer.events[name].disconnect(self._on_painted)
            for name in REDRAWN:
                layer.events[name].disconnect(self._on_redrawn)
            layer.events.mode.disconnect(self._on_tool)

    # Which image

    def images(self) -> list[Image]:
        """Return the image layers that are not ours, bottom to top."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image) and KIND not in layer.metadata]

    def current(self) -> Plane | None:
        """Return the plane that is worked on: of the active image, of the image of the active overlay, or of the last one."""
        images = self.images()
        active = self._viewer.layers.selection.active
        if active in images:
            self._current = active
        elif active is not None and GROUP in active.metadata:
            named = [image for image in images if Plane(image, ()).group == active.metadata[GROUP]]
            self._current = named[-1] if named else self._current
        if self._current not in images:
            visible = [image for image in images if image.visible]
            self._current = (visible or images or [None])[-1]
        return None if self._current is None else self._plane(self._current)

    def visible_planes(self) -> list[Plane]:
        """Return the shown plane of every visible image."""
        return [self._plane(image) for image in self.images() if image.visible]

    def _plane(self, layer: Image) -> Plane:
        sizes = spatial_shape(layer)[:-2]
        where = layer.world_to_data(self._viewer.dims.point[-layer.ndim :])[: len(sizes)] if sizes else ()
        return Plane(layer, tuple(min(max(round(at), 0), size - 1) for at, size in zip(where, sizes, strict=True)))

    def plane_named(self, name: str) -> Plane | None:
        """Return the plane of an open image by its name, whichever plane is shown."""
        groups = {Plane(image, ()).group: image for image in self.images()}
        if name in groups:
            return Plane(groups[name], ())
        match = _PLANE.fullmatch(name)
        image = groups.get(match[1]) if match else None
        if match is None or image is None:
            return None
        index = tuple(map(int, match[2].split(",")))
        return Plane(image, index) if len(index) == len(spatial_shape(image)) - 2 else None

    def view_centre(self, plane: Plane) -> tuple[float, float]:
        """Return the row and column of a plane in the middle of the canvas."""
        whole = Placement.of_layer(plane.layer, 2)
        # napari 0.9 moved the camera into the scene.
        camera = getattr(self._viewer, "scene", self._viewer).camera
        row, column = (
            (at - start) / step for at, start, step in zip(camera.center[-2:], whole.translate, whole.scale, strict=True)
        )
        return row, column

    def is_flat(self, plane: Plane) -> bool:
        """Whether the canvas shows rows and columns of the plane, and not a volume or a cut across slices."""
        dims = self._viewer.dims
        return dims.ndisplay == 2 and tuple(dims.displayed) == (dims.ndim - 2, dims.ndim - 1)

    def visible_part(self, plane: Plane) -> tuple[int, int, int, int]:
        """Return the first row and column of a plane on the canvas, and those after the last; all of it if none is."""
        corners = np.asarray(plane.layer.corner_pixels)[:, -2:].astype(int)
        corners[1] += 1
        if plane.layer.multiscale:
            corners = np.rint(corners * plane.layer.downsample_factors[plane.layer.data_level][-2:]).astype(int)
        (top, left), (bottom, right) = corners.clip(0, plane.shape).tolist()
        # An image of other axes than the canvas, or one that was not drawn yet, states an empty part.
        return (top, left, bottom, right) if bottom - top > 1 and right - left > 1 else (0, 0, *plane.shape)

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
            self._viewer.layers.append(layer)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        self._viewer.reset_view()

    def close_opened(self) -> None:
        """Remove the images that were opened from the list, and the overlays of each, and those whose image is gone."""
        names = self._opened_names()
        for layer in list(self._viewer.layers):
            if RECORD in layer.metadata or layer.metadata.get(GROUP) in names:
                self._viewer.layers.remove(layer)
        for layer in self.orphans():
            self._viewer.layers.remove(layer)

    def use_channels(self, chosen: tuple[int, ...] | None) -> None:
        """Let jobs see only some channels of coloured images that the user opened; None for all."""
        for image in self.images():
            if chosen is None:
                image.metadata.pop(CHANNELS, None)
            elif image.rgb and RECORD not in image.metadata:
                image.metadata[CHANNELS] = chosen

    def settle(self, image: Image) -> None:
        """Give an image that the user opened the name by which the project knows it, or one that no other image goes by.

        One with overlays keeps the name that they carry, unless its pixels became those of an image of another size.
        """
        before = Plane(image, ()).group
        lie_on_it = [layer for layer in self._of_group(before) if layer.metadata[KIND] in KEPT]
        fit = all(layer.multiscale or layer.data.shape == spatial_shape(image) for layer in lie_on_it)
        if RECORD in image.metadata or (NAME in image.metadata and self._of_group(before) and fit):
            return
        image.metadata.pop(NAME, None)
        name = self.known_as(image, self._groups_without(image)) or self.free_name(image)
        if name != image.name:
            image.metadata[NAME] = name
        if name != before:
            image.metadata.pop(UNSURE, None)
            if image.name in self.names_of_others(image):
                self.told_apart.emit(image.name, name)

    def free_name(self, image: Image) -> str:
        """Return what an image is called, with a number where another image goes by that name, or has been painted by it."""
        taken = self._groups_without(image) | self.names_of_others(image)
        names = (image.name if number == 0 else f"{image.name} ({number})" for number in count())
        return next(name for name in names if name not in taken)

    def rename(self, image: Image, name: str) -> None:
        """Let an image and its overlays go by another name."""
        for layer in self._of_group(Plane(image, ()).group):
            layer.metadata[GROUP] = name
            layer.name = _title(name, layer.metadata[KIND], layer.metadata["detail"])
        image.metadata[NAME] = name

    def orphans(self) -> list[Layer]:
        """Return overlays whose image left the viewer."""
        groups = {Plane(image, ()).group for image in self.images()} | {PREVIEW_GROUP}
        return [layer for layer in self._viewer.layers if KIND in layer.metadata and layer.metadata[GROUP] not in groups]

    def remove(self, layer: Layer) -> None:
        """Take an overlay out of the viewer."""
        self._viewer.layers.remove(layer)

    def _groups_without(self, image: Image) -> set[str]:
        return {Plane(other, ()).group for other in self.images() if other is not image}

    def is_open(self, record: ImageRecord) -> bool:
        """Whether the image has a layer already."""
        return any(image.metadata.get(RECORD) == record for image in self.images())

    def _opened_names(self) -> set[str]:
        return {image.metadata[RECORD].name for image in self.images() if RECORD in image.metadata}

    # Plumbing

    def _show_image(
        self, plane: Plane, kind: Kind, detail: str, data: npt.NDArray[np.float32], colormap: str | Colormap
    ) -> Image:
        layer = self._find(kind, plane.group, detail)
        if layer is None:
            layer = Image(data, colormap=colormap, blending="additive")
            self._add(layer, kind, detail, plane.group, plane.placement())
        else:
            layer.data = data
            plane.placement().apply(layer)
        layer.contrast_limits = (0.0, 1.0) if kind is Kind.PROBABILITY else (0.0, max(float(data.max()), 1e-6))
        return layer

    def reveal(self, plane: Plane, layer: Layer) -> None:
        """Show a layer that was made hidden, if it is part of working on its image and that is seen."""
        layer.visible = plane.layer.visible and layer.metadata[KIND] in self._comes_back

    def _bring_back(self, group: str) -> None:
        """Show those overlays of an image that is seen again which are part of working on it."""
        for overlay in self._of_group(group):
            overlay.visible = overlay.metadata[KIND] in self._comes_back

    def _show_only(self, shown: Layer) -> None:
        """Show one look inside and hide the other overlays of the same image, so that none covers it."""
        for layer in self._of_group(shown.metadata[GROUP]):
            layer.visible = layer is shown

    def _hide_looks(self, group: str) -> None:
        for layer in self._of_group(group):
            if layer.metadata[KIND] in LOOKS:
                layer.visible = False

    def _add(self, layer: Layer, kind: Kind, detail: str, group: str, placement: Placement) -> None:
        """Insert an overlay above its image and below the overlays of higher rank."""
        layer.name = _title(group, kind, detail)
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

    def _of_group(self, group: str) -> list[Any]:
        return [layer for layer in self._viewer.layers if layer.metadata.get(GROUP) == group]

    def _find(self, kind: Kind, group: str, detail: str = "") -> Any:
        for layer in self._of_kind(kind):
            if layer.metadata[GROUP] == group and layer.metadata["detail"] == detail:
                return layer
        return None

    def _on_change(self) -> None:
        self.current_changed.emit()

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        if KIND in layer.metadata and layer not in self._made:
            # A copy that the user made of an overlay is theirs.
            for key in (KIND, GROUP, PROJECT, "detail"):
                layer.metadata.pop(key, None)
        if isinstance(layer, Image) and KIND not in layer.metadata:
            self._watch(layer)
            if RECORD not in layer.metadata and Plane(layer, ()).group in self._groups_without(layer):
                layer.metadata.pop(NAME, None)  # a copy of an image brings its name along
            self.settle(layer)
        self.current_changed.emit()

    def _watch(self, image: Image) -> None:
        image.events.name.connect(self._on_another)
        image.events.data.connect(self._on_another)

    def _unwatch(self, image: Image) -> None:
        image.events.name.disconnect(self._on_another)
        image.events.data.disconnect(self._on_another)

    def _on_another(self, event: Any) -> None:
        self.settle(event.source)

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        if isinstance(layer, Image) and KIND not in layer.metadata:
            self._unwatch(layer)
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


def _title(group: str, kind: str, detail: str) -> str:
    return f"{group} · {kind} {detail}".rstrip()


def class_colors(classes: Sequence[ClassInfo]) -> DirectLabelColormap:
    """Return the colours of a class table; whatever is not in it is transparent."""
    colors: Mapping[int | None, str] = {None: "transparent", 0: "transparent", **{info.id: info.color for info in classes}}
    return DirectLabelColormap(color_dict=dict(colors))
