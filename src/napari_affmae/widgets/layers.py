"""The only module that touches ``viewer.layers``. Everything here runs on the main thread.

napari has no layer groups yet, so overlays are named after their image, ``<image> · <kind>``, and stand above it in the layer
list in a fixed order. (The image comes first because the list shortens long names in the middle.) They carry the image's scale,
translate, units and axis labels, and are updated in place when a job has something new.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer, Points
from napari.utils.colormaps import Colormap, DirectLabelColormap
from psygnal import Signal

from ..card import ClassInfo, PixelSize
from ..data.records import ImageRecord
from ..events import LivePrediction, Preview
from .placement import Placement
from .plane import RECORD, Plane, for_display, spatial_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ..engine.inspect import StageInspection
    from ..engine.refine import Refined
    from ..engine.segment import SegmentationResult

KIND = "napari_affmae_kind"
GROUP = "napari_affmae_group"
"""Keys in ``layer.metadata`` of an overlay: what it is, and the name of its image."""

PREVIEW_GROUP = "pretraining"


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
    TOKENS = "tokens"
    PAINT = "paint"


_CHANGED = ("paint", "data")
"""Events of a Labels layer that say that its data changed: a stroke has ended, or the array was replaced."""

_REDRAWN = ("set_data", "labels_update")
"""Events that come with every other change, as napari has none of their own for them: undo and redo, an edit by a program
(whose ``paint`` comes before the data change) and ``refresh``. Scrolling through a stack causes them as well."""

_RANK = {kind: rank for rank, kind in enumerate(Kind)}
_KEPT = (Kind.PAINT, Kind.SEGMENTATION)
"""Overlays that the project folder keeps."""
_LOOKS = (Kind.PCA, Kind.DENSITY, Kind.MERGE_MAP, Kind.TOKENS)
"""Overlays that look inside the network. One is shown at a time, without the paint and the segmentation."""


class OverlayLayers:
    """Images, paint and overlays of one viewer.

    Signals
    -------
    current_changed()
        Another image, or another plane of it, is worked on.
    painted()
        Paint changed.
    paint_redrawn()
        Paint was drawn anew: it may have changed, or only been scrolled. Comes many times a second.
    paint_removed(Labels)
        A paint layer left the viewer; its data can still be saved.
    segmented(Plane, SegmentationResult)
        A plane shows a new segmentation.
    kept_removed(str)
        Paint or segmentation of an image left the viewer; the name of the image.
    overlay_added(Layer)
        An overlay of any kind is in the viewer now.
    """

    current_changed = Signal()
    painted = Signal()
    paint_redrawn = Signal()
    paint_removed = Signal(object)
    segmented = Signal(object, object)
    kept_removed = Signal(str)
    overlay_added = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._current: Image | None = None
        viewer.layers.selection.events.active.connect(self._on_change)
        viewer.layers.events.inserted.connect(self._on_change)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._on_change)

    def disconnect(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        self._viewer.layers.selection.events.active.disconnect(self._on_change)
        self._viewer.layers.events.inserted.disconnect(self._on_change)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.current_step.disconnect(self._on_change)
        for layer in self._of_kind(Kind.PAINT):
            for name in _CHANGED:
                layer.events[name].disconnect(self._on_painted)
            for name in _REDRAWN:
                layer.events[name].disconnect(self._on_redrawn)

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

    def view_centre(self, plane: Plane) -> tuple[float, float]:
        """Return the row and column of a plane in the middle of the canvas."""
        whole = Placement.of_layer(plane.layer, 2)
        # napari 0.9 moved the camera into the scene.
        camera = getattr(self._viewer, "scene", self._viewer).camera
        row, column = (
            (at - start) / step for at, start, step in zip(camera.center[-2:], whole.translate, whole.scale, strict=True)
        )
        return row, column

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
        """Show an image of the collection and hide the other images that were opened this way, overlays included."""
        found = [image for image in self.images() if image.metadata.get(RECORD) == record]
        for layer in self._viewer.layers:
            if RECORD in layer.metadata or layer.metadata.get(GROUP) in self._opened_names():
                layer.visible = layer.metadata.get(GROUP) == record.name and layer.visible
        if found:
            layer = found[-1]
            for overlay in self._of_group(record.name):
                overlay.visible = overlay.metadata[KIND] in _KEPT
        else:
            shown, rgb = for_display(pixels)
            layer = Image(shown, rgb=rgb, name=record.name, metadata={RECORD: record})
            Placement.of_pixels(record.pixel_size).apply(layer)
            self._viewer.layers.append(layer)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        self._viewer.reset_view()

    def is_open(self, record: ImageRecord) -> bool:
        """Whether the image has a layer already."""
        return any(image.metadata.get(RECORD) == record for image in self.images())

    def _opened_names(self) -> set[str]:
        return {image.metadata[RECORD].name for image in self.images() if RECORD in image.metadata}

    # Paint

    def paint_layer(self, group: str) -> Labels | None:
        """Return the paint of an image, if there is a layer for it."""
        return self._find(Kind.PAINT, group)

    def create_paint(self, plane: Plane, classes: Sequence[ClassInfo], saved: npt.NDArray[Any] | None) -> Labels:
        """Make the paint layer of an image, with paint saved earlier if its shape fits, or return the one that is there."""
        layer = self._find(Kind.PAINT, plane.group)
        if layer is None:
            shape = spatial_shape(plane.layer)
            fits = saved is not None and saved.shape == shape
            data = saved.astype(np.uint8) if saved is not None and fits else np.zeros(shape, np.uint8)
            layer = Labels(data, opacity=0.8, colormap=class_colors(classes))
            self._add(layer, Kind.PAINT, "", plane.group, Placement.of_layer(plane.layer, len(shape)))
            self._listen(layer)
            self.painted.emit()
        self._hide_looks(plane.group)
        if not layer.visible:
            # Even if nothing changes, napari takes bucket and polygon out of the user's hand here.
            layer.visible = True
        return layer

    def adopt(self, layers: Sequence[Layer]) -> None:
        """Take over overlays that an earlier dock left in the viewer, those that are still there."""
        for layer in layers:
            if layer in self._viewer.layers:
                if layer.metadata[KIND] == Kind.PAINT:
                    self._listen(layer)
                self.overlay_added.emit(layer)

    def overlays(self) -> list[Layer]:
        """Return all overlays."""
        return [layer for layer in self._viewer.layers if KIND in layer.metadata]

    def hold_brush(self, layer: Labels, class_id: int, brush: int) -> None:
        """Select the layer, the class and the brush, ready to paint."""
        self._viewer.layers.selection.active = layer
        layer.selected_label = class_id
        layer.brush_size = brush
        # Whoever fills or draws polygons goes on doing so with the other class.
        if layer.mode not in ("fill", "polygon"):
            layer.mode = "paint"

    def lay_down_brush(self) -> None:
        """Leave painting, for example while a job shows its result."""
        for layer in self._of_kind(Kind.PAINT):
            layer.mode = "pan_zoom"

    def color_classes(self, classes: Sequence[ClassInfo]) -> None:
        """Give paint and segmentations the colours of the class table."""
        for kind in _KEPT:
            for layer in self._of_kind(kind):
                layer.colormap = class_colors(classes)

    def paint_layers(self) -> dict[str, Labels]:
        """Return every paint layer by the name of its image."""
        return {str(layer.metadata[GROUP]): layer for layer in self._of_kind(Kind.PAINT)}

    def is_painting(self) -> bool:
        """Whether the user has a brush, a bucket or a polygon of ours in hand."""
        active = self._viewer.layers.selection.active
        return active in self._of_kind(Kind.PAINT) and active.mode in ("paint", "fill", "polygon", "erase")

    def kept(self, group: str, *kinds: Kind) -> list[Labels]:
        """Return paint and segmentation of an image, or only what is of the given kinds."""
        return [layer for layer in self._of_group(group) if layer.metadata[KIND] in (kinds or _KEPT)]

    def planes_with_paint(self) -> list[Plane]:
        """Return the shown plane of every image with paint or segmentation."""
        return [self._plane(image) for image in self.images() if self.kept(Plane(image, ()).group)]

    def remove_kept(self, group: str) -> None:
        """Remove paint and segmentation of an image from the viewer, to be replaced by what is on disk."""
        for layer in self.kept(group):
            self._viewer.layers.remove(layer)

    def show_stack(self, group: str, index: tuple[int, ...], others: Collection[str]) -> bool:
        """Show a plane of an image that the user opened, and hide others by name; return whether it is open."""
        found = [image for image in self.images() if Plane(image, ()).group == group]
        if not found:
            return False
        for layer in self._viewer.layers:
            name = layer.metadata.get(GROUP, layer.name)
            if name in others and name != group:
                layer.visible = False
        found[-1].visible = True
        for overlay in self._of_group(group):
            overlay.visible = overlay.metadata[KIND] in _KEPT
        self._viewer.layers.selection.active = found[-1]
        placement = Placement.of_layer(found[-1], len(spatial_shape(found[-1])))
        first = self._viewer.dims.ndim - len(placement.scale)
        for axis, at in enumerate(index):
            self._viewer.dims.set_point(first + axis, placement.translate[axis] + at * placement.scale[axis])
        return True

    def painted_pixels(self) -> dict[int, int]:
        """Return the number of painted pixels per class id, in all images."""
        counts = np.zeros(256, np.int64)
        for layer in self._of_kind(Kind.PAINT):
            data = np.asarray(layer.data, np.uint8)
            # Paint is sparse: looking for it first is many times faster than counting everything.
            counts += np.bincount(data[data > 0], minlength=256)
        return {class_id: int(count) for class_id, count in enumerate(counts) if class_id and count}

    def painted_planes(self) -> Iterator[tuple[ImageRecord, npt.NDArray[np.uint8]]]:
        """Yield every plane that has paint, with a copy of it."""
        for image in self.images():
            layer = self._find(Kind.PAINT, Plane(image, ()).group)
            if layer is None or layer.data.shape != spatial_shape(image):
                continue
            for index in np.ndindex(*layer.data.shape[:-2]):
                labels = np.array(layer.data[index], np.uint8)
                if labels.any():
                    yield Plane(image, tuple(index)).record(), labels

    # What jobs show

    def show_preview(self, preview: Preview, pixel_size: PixelSize | None) -> None:
        """Show what the network sees and what it makes of it, right of everything else."""
        for place, (kind, data) in enumerate([(Kind.MASKED, preview.masked), (Kind.RECONSTRUCTION, preview.reconstruction)]):
            layer = self._find(kind, PREVIEW_GROUP)
            if layer is not None and layer.data.shape == data.shape:
                layer.data = data
                continue
            if layer is not None:
                self._viewer.layers.remove(layer)
            layer = Image(data, rgb=data.ndim == 3, contrast_limits=None if data.ndim == 3 else (0, 1))
            spot = Placement.of_pixels(pixel_size, self._free_corner(pixel_size))
            self._add(layer, kind, "", PREVIEW_GROUP, spot)
            if place == 1:
                self._viewer.reset_view()

    def show_segmentation(self, plane: Plane, result: SegmentationResult, probabilities: bool) -> None:
        """Show the classes of a plane, and on demand the probability of each."""
        shape = spatial_shape(plane.layer)
        layer = self._find(Kind.SEGMENTATION, plane.group)
        data = np.zeros(shape, np.uint8) if layer is None or layer.data.shape != shape else np.asarray(layer.data)
        data[plane.index] = result.labels
        if layer is None:
            layer = self.show_saved_segmentation(plane, data, result.classes)
        else:
            layer.data = data
        layer.colormap = class_colors(result.classes)
        self._hide_looks(plane.group)
        layer.visible = True
        if probabilities:
            for info, probability in zip(result.classes, result.probabilities, strict=True):
                self._show_image(plane, Kind.PROBABILITY, info.name, probability, _ramp(info))
        self.segmented.emit(plane, result)

    def show_stored(self, plane: Plane, levels: Sequence[Any], classes: Sequence[ClassInfo]) -> None:
        """Show a segmentation that stays on disk, given at several scales, finest first."""
        layer = self._find(Kind.SEGMENTATION, plane.group)
        if layer is not None:
            self._viewer.layers.remove(layer)
        layer = Labels(list(levels), multiscale=True, opacity=0.5)
        self._add(layer, Kind.SEGMENTATION, "", plane.group, plane.placement())
        layer.colormap = class_colors(classes)
        self._hide_looks(plane.group)

    def segmentation_of(self, plane: Plane) -> npt.NDArray[Any] | None:
        """Return a copy of the segmentation of a plane that lies in memory, if there is one."""
        layer = self._find(Kind.SEGMENTATION, plane.group)
        if layer is None or layer.multiscale or layer.data.shape != spatial_shape(plane.layer):
            return None
        labels = np.array(layer.data[plane.index])
        return labels if labels.any() else None

    def show_refined(self, plane: Plane, refined: Refined, classes: Sequence[ClassInfo]) -> None:
        """Show a refined segmentation and its objects in place of the plain one, which is only hidden."""
        self._show_labels(plane, Kind.REFINED, refined.labels).colormap = class_colors(classes)
        if refined.instances is not None:
            self._show_labels(plane, Kind.INSTANCES, refined.instances).contour = 1
        plain = self._find(Kind.SEGMENTATION, plane.group)
        if plain is not None:
            plain.visible = False

    def remove_refined(self) -> None:
        """Remove all refined layers; the segmentations are seen again."""
        for kind in (Kind.REFINED, Kind.INSTANCES):
            for layer in self._of_kind(kind):
                plain = self._find(Kind.SEGMENTATION, layer.metadata[GROUP])
                if plain is not None and layer.visible:
                    plain.visible = True
                self._viewer.layers.remove(layer)

    def _show_labels(self, plane: Plane, kind: Kind, labels: npt.NDArray[Any]) -> Labels:
        layer = self._find(kind, plane.group)
        if layer is None:
            layer = Labels(labels, opacity=0.5 if kind is Kind.REFINED else 1.0)
            self._add(layer, kind, "", plane.group, plane.placement())
        else:
            layer.data = labels
            plane.placement().apply(layer)
        layer.visible = True
        return layer

    def show_saved_segmentation(self, plane: Plane, data: npt.NDArray[Any], classes: Sequence[ClassInfo]) -> Labels:
        """Show the classes ``[..., H, W]`` of all planes of an image as a new layer, and return it."""
        layer = Labels(data, opacity=0.5, colormap=class_colors(classes))
        self._add(layer, Kind.SEGMENTATION, "", plane.group, Placement.of_layer(plane.layer, data.ndim))
        return layer

    def show_parts(self, plane: Plane, parts: Sequence[LivePrediction], classes: Sequence[ClassInfo]) -> None:
        """Write parts of a plane's segmentation in place, and draw once."""
        shape = spatial_shape(plane.layer)
        layer = self._find(Kind.SEGMENTATION, plane.group)
        if layer is None or layer.data.shape != shape:
            if layer is not None:
                self._viewer.layers.remove(layer)
            layer = Labels(np.zeros(shape, np.uint8), opacity=0.5, colormap=class_colors(classes))
            self._add(layer, Kind.SEGMENTATION, "", plane.group, Placement.of_layer(plane.layer, len(shape)))
        for part in parts:
            height, width = part.labels.shape
            layer.data[plane.index][part.top : part.top + height, part.left : part.left + width] = part.labels
        layer.refresh(extent=False)

    def show_tokens(self, plane: Plane, stage: StageInspection) -> None:
        """Show where the tokens of a stage sit, each as large as the area it stands for."""
        # Token i owns the pixels of value i + 1. Floating point, or napari would take a few distinct areas for categories.
        areas = np.bincount(stage.merge_map.ravel(), minlength=len(stage.positions_rc) + 1)[1:].astype(np.float64)
        sizes = np.maximum(np.sqrt(areas) * 0.75, 2.0)
        layer = self._find(Kind.TOKENS, plane.group, stage.name)
        if layer is None:
            layer = Points(stage.positions_rc, size=sizes, border_width=0, opacity=0.7, features={"area": areas})
            layer.face_colormap = "plasma"
            layer.face_color = "area"
            self._add(layer, Kind.TOKENS, stage.name, plane.group, plane.placement())
        else:
            layer.data = stage.positions_rc
            layer.features = {"area": areas}
            layer.size = sizes
            layer.refresh_colors()
            plane.placement().apply(layer)
        self._show_only(layer)

    def show_merge_map(self, plane: Plane, stage: StageInspection) -> None:
        """Show which surviving token of a stage owns each pixel."""
        layer = self._find(Kind.MERGE_MAP, plane.group, stage.name)
        if layer is None:
            layer = Labels(stage.merge_map, opacity=0.5)
            self._add(layer, Kind.MERGE_MAP, stage.name, plane.group, plane.placement())
        else:
            layer.data = stage.merge_map
            plane.placement().apply(layer)
        self._show_only(layer)

    def show_density(self, plane: Plane, stage: StageInspection) -> None:
        """Show how densely the tokens of a stage lie."""
        self._show_only(self._show_image(plane, Kind.DENSITY, stage.name, stage.density, "inferno"))

    def show_pca(self, plane: Plane, view: str, features: npt.NDArray[np.float32]) -> None:
        """Show the three main components of features ``[H, W, 3]`` as colours."""
        layer = self._find(Kind.PCA, plane.group, view)
        if layer is None:
            layer = Image(features, rgb=True)
            self._add(layer, Kind.PCA, view, plane.group, plane.placement())
        else:
            layer.data = features
            plane.placement().apply(layer)
        self._show_only(layer)

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

    def _show_only(self, shown: Layer) -> None:
        """Show one look inside and hide the other overlays of the same image, so that none covers it."""
        for layer in self._of_group(shown.metadata[GROUP]):
            layer.visible = layer is shown

    def _hide_looks(self, group: str) -> None:
        for layer in self._of_group(group):
            if layer.metadata[KIND] in _LOOKS:
                layer.visible = False

    def _add(self, layer: Layer, kind: Kind, detail: str, group: str, placement: Placement) -> None:
        """Insert an overlay above its image and below the overlays of higher rank."""
        layer.name = f"{group} · {kind} {detail}".rstrip()
        layer.metadata = {KIND: kind, GROUP: group, "detail": detail}
        placement.apply(layer)
        place = len(self._viewer.layers)
        for position, other in enumerate(self._viewer.layers):
            if self._belongs(other, group) and _RANK.get(other.metadata.get(KIND), -1) <= _RANK[kind]:
                place = position + 1
        active = self._viewer.layers.selection.active
        self._viewer.layers.insert(place, layer)
        # A new overlay must not take the brush out of the user's hand.
        if active is not None:
            self._viewer.layers.selection.active = active
        self.overlay_added.emit(layer)

    def _listen(self, layer: Labels) -> None:
        for name in _CHANGED:
            layer.events[name].connect(self._on_painted)
        for name in _REDRAWN:
            layer.events[name].connect(self._on_redrawn)

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

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        if layer.metadata.get(KIND) in _KEPT:
            self.kept_removed.emit(str(layer.metadata[GROUP]))
        if layer.metadata.get(KIND) == Kind.PAINT:
            self.paint_removed.emit(layer)
            self.painted.emit()
        self.current_changed.emit()

    def _on_painted(self) -> None:
        self.painted.emit()

    def _on_redrawn(self) -> None:
        self.paint_redrawn.emit()


def class_colors(classes: Sequence[ClassInfo]) -> DirectLabelColormap:
    """Return the colours of a class table; whatever is not in it is transparent."""
    colors: Mapping[int | None, str] = {None: "transparent", 0: "transparent", **{info.id: info.color for info in classes}}
    return DirectLabelColormap(color_dict=dict(colors))


def _ramp(info: ClassInfo) -> Colormap:
    return Colormap([[0, 0, 0, 1], info.color], name=f"{info.name} {info.color}")
