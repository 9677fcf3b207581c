"""What jobs show in the viewer: previews, segmentations and what is made of them.

This module and those of its base classes are the only ones that touch ``viewer.layers``. Everything in them runs on the main
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer

from ..card import ClassInfo, PixelSize
from ..events import LivePrediction, Preview
from .kinds import GROUP, PREDICTED, PREDICTIONS, PREVIEW_GROUP, Kind
from .look_layers import LookLayers
from .object_colors import object_colors
from .overlays import class_colors
from .paint_layers import PaintLayers
from .placement import Placement
from .plane import Plane, spatial_shape
from .probability_layers import ProbabilityLayers
from .suggestion_layers import SuggestionLayers
from .uncertainty_layers import UncertaintyLayers

if TYPE_CHECKING:
    from ..engine.refine import Refined
    from .image_jobs import Segmented


class OverlayLayers(PaintLayers, LookLayers, ProbabilityLayers, UncertaintyLayers, SuggestionLayers):
    """Images, paint and overlays of one viewer; see :class:`~napari_affmae.widgets.overlays.Overlays` for its signals."""

    def reveal_preview(self) -> None:
        """Show what an earlier run has left, for a new one to go on with: an image that was opened since has hidden it."""
        hidden = [layer for layer in self._of_group(PREVIEW_GROUP) if not layer.visible]
        for layer in hidden:
            layer.visible = True
        if hidden:
            self._fill_view()

    def put_preview_away(self) -> None:
        """Hide what a run has left, and fill the view with the images: they are worked on now."""
        seen = [layer for layer in self._of_group(PREVIEW_GROUP) if layer.visible]
        for layer in seen:
            layer.visible = False
        if seen:
            self._fill_view()

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
                self._fill_view()

    def show_segmentation(self, plane: Plane, result: Segmented) -> None:
        """Show the classes of a plane."""
        shape = spatial_shape(plane.layer)
        layer = self._find(Kind.SEGMENTATION, plane.group)
        data = np.zeros(shape, np.uint8) if layer is None or layer.data.shape != shape else np.asarray(layer.data)
        data[plane.index] = result.labels
        if layer is None:
            layer = self.show_saved_segmentation(plane, data, result.classes)
        else:
            layer.data = data
        layer.colormap = class_colors(result.classes)
        self._put_look_away(plane.group)
        layer.visible = layer.visible or plane.layer.visible
        self.segmented.emit(plane, result)

    def show_stored(self, plane: Plane, levels: Sequence[Any], classes: Sequence[ClassInfo]) -> None:
        """Show a segmentation that stays on disk, given at several scales, finest first."""
        layer = self._find(Kind.SEGMENTATION, plane.group)
        if layer is not None:
            self._viewer.layers.remove(layer)
        layer = Labels(list(levels), multiscale=True, opacity=PREDICTED)
        self._add(layer, Kind.SEGMENTATION, "", plane.group, plane.placement())
        layer.colormap = class_colors(classes)
        self._put_look_away(plane.group)

    def segmentation_of(self, plane: Plane) -> npt.NDArray[Any] | None:
        """Return a copy of the segmentation of a plane that lies in memory, if there is one."""
        layer = self._find(Kind.SEGMENTATION, plane.group)
        if layer is None or layer.multiscale or layer.data.shape != spatial_shape(plane.layer):
            return None
        labels = np.array(layer.data[plane.index])
        return labels if labels.any() else None

    def shown_prediction(self, plane: Plane) -> Any:
        """Return the ids ``[H, W]`` of a plane that the user sees, to be sliced: refined ones if they are shown; or None."""
        for kind in PREDICTIONS:
            layer = self._find(kind, plane.group)
            if layer is None or not layer.visible:
                continue
            ids = layer.data[0] if layer.multiscale else layer.data
            if tuple(ids.shape) == spatial_shape(plane.layer):
                return ids[plane.index] if plane.index else ids
            if tuple(ids.shape) == plane.shape:
                return ids
        return None

    def show_refined(self, plane: Plane, refined: Refined, classes: Sequence[ClassInfo]) -> None:
        """Show a refined segmentation and its objects in place of the plain one, which is only hidden."""
        plain = self._find(Kind.SEGMENTATION, plane.group)
        seen = plane.layer.visible or (plain is not None and plain.visible)
        self._show_labels(plane, Kind.REFINED, refined.labels, seen).colormap = class_colors(classes)
        if refined.instances is not None:
            objects = self._show_labels(plane, Kind.INSTANCES, refined.instances, seen)
            objects.contour = 1
            objects.colormap = object_colors(classes)
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

    def _show_labels(self, plane: Plane, kind: Kind, labels: npt.NDArray[Any], seen: bool) -> Labels:
        layer = self._find(kind, plane.group)
        if layer is None:
            layer = Labels(labels, opacity=PREDICTED if kind is Kind.REFINED else 1.0)
            self._add(layer, kind, "", plane.group, plane.placement())
        else:
            layer.data = labels
            plane.placement().apply(layer)
        layer.visible = layer.visible or seen
        return layer

    def show_saved_segmentation(self, plane: Plane, data: npt.NDArray[Any], classes: Sequence[ClassInfo]) -> Labels:
        """Show the classes ``[..., H, W]`` of all planes of an image as a new layer, and return it."""
        layer = Labels(data, opacity=PREDICTED, colormap=class_colors(classes))
        self._add(layer, Kind.SEGMENTATION, "", plane.group, Placement.of_layer(plane.layer, data.ndim))
        return layer

    def show_parts(self, plane: Plane, parts: Sequence[LivePrediction], classes: Sequence[ClassInfo]) -> Labels | None:
        """Write parts of a plane's segmentation in place, and draw once.

        Returns a layer that had to be made for it. It is hidden until it is revealed, and lacks what napari draws while a hand
        paints on it until that is done, too: see :meth:`to_complete`.
        """
        shape = spatial_shape(plane.layer)
        layer = self._find(Kind.SEGMENTATION, plane.group)
        made = None
        # One that lies on disk, in several scales, cannot be written to.
        if layer is None or layer.multiscale or layer.data.shape != shape:
            if layer is not None:
                self._viewer.layers.remove(layer)
            made = layer = Labels(np.zeros(shape, np.uint8), opacity=PREDICTED, colormap=class_colors(classes), visible=False)
            for aid in _drawing_aids(layer):
                aid.visible = False
            self._add(layer, Kind.SEGMENTATION, "", plane.group, Placement.of_layer(plane.layer, len(shape)))
        for part in parts:
            height, width = part.labels.shape
            layer.data[plane.index][part.top : part.top + height, part.left : part.left + width] = part.labels
        layer.refresh(extent=False)
        self.predicted.emit(plane)
        return made

    def to_complete(self, plane: Plane, layer: Layer) -> list[Callable[[], None]]:
        """Return what a layer that was made hidden still needs, each to be done in an event of its own."""
        return [partial(self.reveal, plane, layer), *(partial(self._add_aid, layer, aid) for aid in _drawing_aids(layer))]

    def _add_aid(self, layer: Layer, aid: Any) -> None:
        if layer in self._viewer.layers:
            aid.visible = True

    def show_unsure_parts(self, plane: Plane, parts: Sequence[LivePrediction]) -> Image | None:
        """Write how unsure parts of a plane's segmentation are in place, as :meth:`show_uncertainty` does."""
        return self.show_uncertainty(plane, [(p.top, p.left, p.uncertainty) for p in parts if p.uncertainty is not None])


def _drawing_aids(layer: Layer) -> list[Any]:
    """Return the outlines of a polygon and of an encircling stroke that napari keeps ready for a layer of labels.

    Making their visuals takes napari a third of the time of the whole layer, unless they are switched off. There is no public
    way to them; a napari that calls them otherwise makes them along with the layer.
    """
    ready = getattr(layer, "_overlays", {})
    return [ready[name] for name in ("polygon", "brush_stroke") if name in ready]
