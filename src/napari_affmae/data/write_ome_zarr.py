"""Store a segmentation as OME-Zarr: https://ngff.openmicroscopy.org/0.5/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from ..card import ClassInfo, PixelSize
from .pyramid import VERSION, Pyramid, blocks

Pixels = npt.NDArray[Any]


class OmeZarrRows:
    """An OME-Zarr of an image and its segmentation that is written row by row.

    The image lies at the root, the class ids in ``labels/segmentation`` with names and colours of the classes, instances in
    ``labels/instances``, probabilities in ``probabilities``, an image of its own with one channel per class. Large arrays get
    coarser scales by factors of two.

    Parameters
    ----------
    path
        Folder to make.
    image
        ``[H, W, C]``, anything that is sliced by rows and columns; it is copied block by block.
    classes
        Names and colours of the ids.
    dtype
        Data type of the ids.
    probabilities
        Whether probabilities are written, too.
    pixel_size
        Size of a pixel, if known.
    """

    def __init__(
        self,
        path: Path,
        image: Any,
        classes: Sequence[ClassInfo],
        dtype: npt.DTypeLike,
        *,
        probabilities: bool,
        pixel_size: PixelSize | None = None,
    ) -> None:
        height, width, channels = image.shape
        self._pixel_size = pixel_size
        self._image = image
        root = zarr.open_group(path, mode="w", zarr_format=3)
        self._pixels = Pyramid(root, (channels, height, width), image.dtype, "image", pixel_size)
        self._labels = root.create_group("labels")
        self._names = ["segmentation"]
        self._ids = Pyramid(
            self._labels.create_group("segmentation"), (height, width), dtype, "segmentation", pixel_size, ids=True,
            more={"image-label": {**legend(classes), "source": _SOURCE}},
        )  # fmt: skip
        self._probabilities = None
        if probabilities:
            group = root.create_group("probabilities")
            self._probabilities = Pyramid(group, (len(classes), height, width), np.float32, "probabilities", pixel_size)

    def write(self, top: int, labels: Pixels, probabilities: npt.NDArray[np.float32] | None) -> None:
        """Write rows of ids ``[rows, W]``, and of probabilities ``[K, rows, W]`` if there are to be any."""
        self._ids.write(top, labels)
        if self._probabilities is not None and probabilities is not None:
            self._probabilities.write(top, probabilities)

    def write_instances(self, instances: Pixels) -> None:
        """Write numbers of instances ``[H, W]``."""
        group = self._labels.create_group("instances")
        dtype = np.min_scalar_type(int(instances.max()) if instances.size else 0)
        pyramid = Pyramid(
            group, instances.shape, dtype, "instances", self._pixel_size, ids=True, more={"image-label": {"source": _SOURCE}}
        )
        pyramid.write(0, instances)
        pyramid.finish()
        self._names.append("instances")

    def finish(self) -> None:
        """Copy the image, make the coarser scales and write the metadata."""
        for rows, columns in blocks(self._image.shape[:2]):
            self._pixels.write(rows.start, np.moveaxis(np.asarray(self._image[rows, columns]), -1, 0), columns.start)
        for pyramid in (self._pixels, self._ids, self._probabilities):
            if pyramid is not None:
                pyramid.finish()
        self._labels.attrs["ome"] = {"version": VERSION, "labels": self._names}


_SOURCE = {"image": "../../"}


def legend(classes: Sequence[ClassInfo]) -> dict[str, Any]:
    """Return names and colours of ids as NGFF's ``image-label`` writes them."""
    return {
        "colors": [
            {"label-value": info.id, "rgba": [*(int(info.color[i : i + 2], 16) for i in (1, 3, 5)), 255]} for info in classes
        ],
        "properties": [{"label-value": info.id, "class": info.name} for info in classes],
    }
