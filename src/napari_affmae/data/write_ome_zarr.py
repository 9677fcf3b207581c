"""Store a segmentation as OME-Zarr: https://ngff.openmicroscopy.org/0.5/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from ..card import ClassInfo, PixelSize
from ..errors import StorageError
from .write import place_whole

_CHUNK = 512
_VERSION = "0.5"

Pixels = npt.NDArray[Any]


def write_ome_zarr(
    path: Path | str,
    image: Pixels,
    labels: Pixels,
    classes: Sequence[ClassInfo],
    *,
    probabilities: npt.NDArray[np.float32] | None = None,
    pixel_size: PixelSize | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an image and its segmentation as one OME-Zarr (NGFF 0.5, Zarr 3).

    The image lies at the root, the class ids in ``labels/segmentation`` with names and colours of the classes, probabilities in
    ``probabilities``, an image of its own with one channel per class. Large arrays get coarser scales by factors of two.

    Parameters
    ----------
    path
        Folder to make, usually ending in ``.ome.zarr``.
    image
        ``[H, W]`` or ``[H, W, C]``.
    labels
        Ids ``[H, W]``.
    classes
        Names and colours of the ids.
    probabilities
        ``[K, H, W]``, or None.
    pixel_size
        Size of a pixel, if known.
    overwrite
        Whether what is there may be replaced.

    Raises
    ------
    StorageError
        If the shapes do not fit together, something is there already, or it cannot be written.
    """
    if labels.shape != image.shape[:2]:
        raise StorageError(f"labels of shape {labels.shape} do not fit an image of shape {image.shape}; expected the same size")
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)

    def write(place: Path) -> None:
        root = zarr.open_group(place, mode="w", zarr_format=3)
        _multiscale(root, planes, "image", pixel_size, _mean)
        group = root.create_group("labels")
        group.attrs["ome"] = {"version": _VERSION, "labels": ["segmentation"]}
        ids = labels.astype(np.min_scalar_type(int(labels.max()) if labels.size else 0), copy=False)
        _multiscale(
            group.create_group("segmentation"), ids, "segmentation", pixel_size, _every_other, {"image-label": legend(classes)}
        )
        if probabilities is not None:
            _multiscale(root.create_group("probabilities"), probabilities, "probabilities", pixel_size, _mean)

    return place_whole(Path(path), write, overwrite)


def _multiscale(
    group: zarr.Group,
    pixels: Pixels,
    name: str,
    pixel_size: PixelSize | None,
    halve: Callable[[Pixels], Pixels],
    more: dict[str, Any] | None = None,
) -> None:
    """Write ``[..., H, W]`` and its coarser scales into a group, with the metadata that place them."""
    axes = [{"name": "c", "type": "channel"}] * (pixels.ndim - 2)
    unit = {} if pixel_size is None else {"unit": pixel_size.unit}
    axes += [{"name": axis, "type": "space", **unit} for axis in "yx"]
    side = (1.0, 1.0) if pixel_size is None else (pixel_size.y, pixel_size.x)
    datasets = []
    level = 0
    while True:
        factor = 2**level
        array = group.create_array(
            str(level),
            shape=pixels.shape,
            chunks=(1,) * (pixels.ndim - 2) + tuple(max(1, min(_CHUNK, size)) for size in pixels.shape[-2:]),
            dtype=pixels.dtype,
            dimension_names=[axis["name"] for axis in axes],
        )
        array[...] = pixels
        ones, zeros = [1.0] * (pixels.ndim - 2), [0.0] * (pixels.ndim - 2)
        # Averages lie between the pixels that they were made of; every other pixel stays where it was.
        shift = (factor - 1) / 2 if halve is _mean else 0.0
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [*ones, *(s * factor for s in side)]},
                    {"type": "translation", "translation": [*zeros, *(s * shift for s in side)]},
                ],
            }
        )
        if min(pixels.shape[-2:]) < 2 or max(pixels.shape[-2:]) <= _CHUNK:
            break
        pixels = halve(pixels)
        level += 1
    ome: dict[str, Any] = {"version": _VERSION, "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
    group.attrs["ome"] = {**ome, **(more or {})}


def _mean(pixels: Pixels) -> Pixels:
    """Halve the last two axes by averaging; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in pixels.shape[-2:])
    parts = [pixels[..., row:height:2, column:width:2].astype(np.float32) for row in (0, 1) for column in (0, 1)]
    mean = sum(parts[1:], start=parts[0]) / 4
    return (np.rint(mean) if pixels.dtype.kind in "ui" else mean).astype(pixels.dtype)


def _every_other(ids: Pixels) -> Pixels:
    """Halve the last two axes by keeping every other pixel: ids cannot be averaged."""
    height, width = (size // 2 * 2 for size in ids.shape[-2:])
    return ids[..., :height:2, :width:2]


def legend(classes: Sequence[ClassInfo]) -> dict[str, Any]:
    """Return names and colours of ids as NGFF's ``image-label`` has them."""
    return {
        "colors": [
            {"label-value": info.id, "rgba": [*(int(info.color[i : i + 2], 16) for i in (1, 3, 5)), 255]} for info in classes
        ],
        "properties": [{"label-value": info.id, "class": info.name} for info in classes],
        "source": {"image": "../../"},
    }
