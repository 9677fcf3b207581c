"""The images of a viewer: which is worked on, what it goes by, and what of it is seen.

Overlays of an image carry its name, and the project keeps paint under it: no two images may go by the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Layer
from psygnal import Signal

from ..data.plane_names import split_name
from ..data.records import ImageRecord
from .kinds import GROUP, KEPT, KIND, PREVIEW_GROUP
from .placement import PLACED, Placement
from .plane import CHANNELS, NAME, RECORD, UNSURE, Plane, spatial_shape

if TYPE_CHECKING:
    from napari.components import ViewerModel


class OpenImages:
    """The image layers of one viewer that are not ours.

    Attributes
    ----------
    known_names
        By which names the project knows an image, the best first, and by which others than it, though those are not open.

    Signals
    -------
    told_apart(str, str)
        An image is called as another one that was painted before; and what it goes by here.
    """

    told_apart = Signal(str, str)

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._current: Image | None = None
        self._placed: WeakKeyDictionary[Image, Placement] = WeakKeyDictionary()
        self.known_names: Callable[[Image], tuple[list[str], set[str]]] = lambda image: ([], set())
        for image in self.images():
            self._watch(image)

    def disconnect(self) -> None:
        """Stop listening to the images."""
        for image in self.images():
            self._unwatch(image)

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
        stack, index = split_name(name)
        image = groups.get(stack)
        return Plane(image, index) if image is not None and len(index) == len(spatial_shape(image)) - 2 else None

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

    def opened(self) -> list[ImageRecord]:
        """Return the records of the images that were opened from the list."""
        return [image.metadata[RECORD] for image in self.images() if RECORD in image.metadata]

    def _opened_names(self) -> set[str]:
        return {record.name for record in self.opened()}

    def take_over(self, images: Iterable[Image]) -> None:
        """Let images that were opened from the list be the user's own, by the names that they have."""
        for image in images:
            record = image.metadata.pop(RECORD, None)
            if record is not None:
                image.metadata[NAME] = record.name

    def use_channels(self, chosen: tuple[int, ...] | None) -> None:
        """Let jobs see only some channels of coloured images that the user opened; None for all."""
        for image in self.images():
            if chosen is None:
                image.metadata.pop(CHANNELS, None)
            elif image.rgb and RECORD not in image.metadata:
                image.metadata[CHANNELS] = chosen

    # What images go by

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
        own, others = self.known_names(image)
        taken = self._groups_without(image)
        name = next((name for name in own if name not in taken), None) or _free_name(image.name, taken | others)
        if name != image.name:
            image.metadata[NAME] = name
        if name != before:
            image.metadata.pop(UNSURE, None)
            if image.name in others:
                self.told_apart.emit(image.name, name)

    def rename(self, image: Image) -> None:
        """Let an image and its overlays go by a name that no other image goes by, or has been painted by."""
        name = _free_name(image.name, self._groups_without(image) | self.known_names(image)[1])
        for layer in self._of_group(Plane(image, ()).group):
            layer.metadata[GROUP] = name
            layer.name = title(name, layer.metadata[KIND], layer.metadata["detail"])
        image.metadata[NAME] = name

    def orphans(self) -> list[Layer]:
        """Return overlays whose image left the viewer."""
        groups = {Plane(image, ()).group for image in self.images()} | {PREVIEW_GROUP}
        return [layer for layer in self._viewer.layers if KIND in layer.metadata and layer.metadata[GROUP] not in groups]

    def _groups_without(self, image: Image) -> set[str]:
        return {Plane(other, ()).group for other in self.images() if other is not image}

    def _take_in(self, image: Image) -> None:
        """Begin to follow an image that is new in the viewer."""
        self._watch(image)
        if RECORD not in image.metadata and Plane(image, ()).group in self._groups_without(image):
            for key in (NAME, UNSURE):  # which a copy of an image brings along
                image.metadata.pop(key, None)
        self.settle(image)

    def _watch(self, image: Image) -> None:
        image.events.name.connect(self._on_another)
        image.events.data.connect(self._on_another)
        self._placed[image] = Placement.of_layer(image, image.ndim)
        for name in PLACED:
            image.events[name].connect(self._on_placed)

    def _unwatch(self, image: Image) -> None:
        image.events.name.disconnect(self._on_another)
        image.events.data.disconnect(self._on_another)
        for name in PLACED:
            image.events[name].disconnect(self._on_placed)

    def _on_placed(self, event: Any) -> None:
        """Let the overlays of an image go where it goes."""
        image = event.source
        before, now = self._placed[image], Placement.of_layer(image, image.ndim)
        self._placed[image] = now
        for layer in self._of_group(Plane(image, ()).group):
            Placement.of_layer(layer, layer.ndim).following(before, now).apply(layer)

    def _on_another(self, event: Any) -> None:
        self.settle(event.source)

    def _of_group(self, group: str) -> list[Any]:
        return [layer for layer in self._viewer.layers if layer.metadata.get(GROUP) == group]


def _free_name(name: str, taken: set[str]) -> str:
    names = (name if number == 0 else f"{name} ({number})" for number in count())
    return next(one for one in names if one not in taken)


def title(group: str, kind: str, detail: str) -> str:
    """Return what the layer of an overlay is called."""
    return f"{group} · {kind} {detail}".rstrip()
