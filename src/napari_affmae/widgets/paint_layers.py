"""The paint of every image as a layer of its own: made, found, counted, and taken out of the viewer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer

from ..card import ClassInfo
from ..data.records import ImageRecord
from .kinds import GROUP, KEPT, KIND, PAINTED, Kind
from .overlays import Overlays, class_colors
from .placement import Placement
from .plane import UNSURE, Plane, spatial_shape


class PaintLayers(Overlays):
    """Overlays that the user paints, and what is done with them."""

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
            layer = Labels(data, opacity=PAINTED, colormap=class_colors(classes))
            self._add(layer, Kind.PAINT, "", plane.group, Placement.of_layer(plane.layer, len(shape)))
            self._listen(layer)
            self.painted.emit()
        self._put_look_away(plane.group)
        return layer

    def paint_on(self, plane: Plane, classes: Sequence[ClassInfo]) -> Labels:
        """Return the paint layer of an image for the user to paint on, which is seen then, though the image may not be."""
        layer = self.create_paint(plane, classes, None)
        if not layer.visible:
            # Even if nothing changes, napari takes bucket and polygon out of the user's hand here.
            layer.visible = True
        return layer

    def adopt(self, layers: Sequence[Layer]) -> None:
        """Take over overlays that an earlier dock left in the viewer, those that are still there."""
        for layer in layers:
            if layer in self._viewer.layers:
                self._made.add(layer)
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
        for kind in KEPT:
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
        return [layer for layer in self._of_group(group) if layer.metadata[KIND] in (kinds or KEPT)]

    def planes_with_paint(self) -> list[Plane]:
        """Return the shown plane of every image with paint or segmentation."""
        return [self._plane(image) for image in self.images() if self.kept(Plane(image, ()).group)]

    def remove_kept(self, group: str) -> None:
        """Remove paint and segmentation of an image from the viewer, and what tells of them, to be replaced from disk."""
        for layer in self.kept(group, *KEPT, Kind.UNCERTAINTY, Kind.SUGGESTIONS):
            self._viewer.layers.remove(layer)
        for image in self.images():
            if Plane(image, ()).group == group:
                image.metadata.pop(UNSURE, None)

    def show_stack(self, group: str, index: tuple[int, ...], others: Collection[str]) -> bool:
        """Show a plane of an image that the user opened, and hide others by name; return whether it is open."""
        found = [image for image in self.images() if Plane(image, ()).group == group]
        if not found:
            return False
        for layer in self._viewer.layers:
            is_image = isinstance(layer, Image) and KIND not in layer.metadata
            name = Plane(layer, ()).group if is_image else layer.metadata.get(GROUP)
            if name in others and name != group:
                layer.visible = False
        found[-1].visible = True
        self._bring_back(group)
        self._viewer.layers.selection.active = found[-1]
        placement = Placement.of_layer(found[-1], len(spatial_shape(found[-1])))
        first = self._viewer.dims.ndim - len(placement.scale)
        for axis, at in enumerate(index):
            self._viewer.dims.set_point(first + axis, placement.translate[axis] + at * placement.scale[axis])
        return True

    def learned_from(self) -> dict[str, tuple[Image, Labels]]:
        """Return every open image that has a paint layer, and the layer, by the name of the image.

        From paint whose image layer was removed nothing can be learned, unless the image is in the folder that was read.
        """
        found = {}
        for image in self.images():
            group = Plane(image, ()).group
            layer = self._find(Kind.PAINT, group)
            if layer is not None and layer.data.shape == spatial_shape(image):
                found[group] = image, layer
        return found

    def painted_pixels(self) -> dict[int, int]:
        """Return the number of painted pixels per class id, in all open images."""
        counts = np.zeros(256, np.int64)
        for _, layer in self.learned_from().values():
            data = np.asarray(layer.data, np.uint8)
            # Paint is sparse: looking for it first is many times faster than counting everything.
            counts += np.bincount(data[data > 0], minlength=256)
        return {class_id: int(count) for class_id, count in enumerate(counts) if class_id and count}

    def paint_where_empty(self, plane: Plane, ids: npt.NDArray[Any], top: int, left: int) -> int:
        """Paint ids ``[h, w]`` from a row and a column on where they are not 0 and nothing is painted, as one stroke.

        Returns the number of pixels that were painted.
        """
        layer = self._find(Kind.PAINT, plane.group)
        height, width = ids.shape
        there = layer.data[plane.index][top : top + height, left : left + width]
        rows, columns = np.nonzero((ids > 0) & (there == 0))
        if len(rows):
            where = (*(np.full(len(rows), at) for at in plane.index), rows + top, columns + left)
            # Within the block, napari says that paint changed after it has changed it.
            with layer.block_history():
                layer.data_setitem(where, ids[rows, columns])
        return len(rows)

    def painted_planes(self) -> Iterator[tuple[ImageRecord, npt.NDArray[np.uint8]]]:
        """Yield every plane that has paint, with a copy of it."""
        for image, layer in self.learned_from().values():
            for index in np.ndindex(*layer.data.shape[:-2]):
                labels = np.array(layer.data[index], np.uint8)
                if labels.any():
                    yield Plane(image, tuple(index)).record(), labels
