"""Pictures of an inspection: the tokens of each stage over the image, the merge map, the density, the features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.inspect import Inspection

Picture = npt.NDArray[np.uint8]


def pictures(image: npt.NDArray[Any], inspection: Inspection) -> Iterator[tuple[str, Picture]]:
    """Yield names and RGB pictures ``[H, W, 3]`` of the size of the image.

    Parameters
    ----------
    image
        ``[H, W, C]`` in its own units; more than three channels show their first.
    inspection
        What :func:`napari_affmae.inspect` found in it.
    """
    background = grey_or_rgb(image)
    for stage in inspection.stages:
        name = stage.name.replace(" ", "-")
        yield f"{name}_tokens", draw_tokens(background, stage.positions_rc)
        yield f"{name}_merge_map", color_regions(background, stage.merge_map)
        yield f"{name}_density", _repeat(stretch(stage.density))
        yield f"{name}_pca", _to_bytes(stage.pca)
    yield "pca", _to_bytes(inspection.pca)


def grey_or_rgb(image: npt.NDArray[Any]) -> Picture:
    """Turn ``[H, W, C]`` into a picture, stretched between its 1st and 99th percentile."""
    shown = image if image.shape[2] == 3 else image[..., :1]
    picture = stretch(shown)
    return picture if picture.shape[2] == 3 else np.repeat(picture, 3, axis=2)


def stretch(values: npt.NDArray[Any]) -> Picture:
    """Map the range between the 1st and 99th percentile to 0..255."""
    low, high = np.percentile(values, (1, 99))
    return _to_bytes((values.astype(np.float32) - low) / max(float(high - low), 1e-12))


def draw_tokens(background: Picture, positions_rc: npt.NDArray[Any]) -> Picture:
    """Mark each token (row, column in pixels) by a yellow cross on the darkened image."""
    picture = (background * 0.6).astype(np.uint8)
    height, width = picture.shape[:2]
    for row_step, column_step in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
        rows = np.clip(np.floor(positions_rc[:, 0]).astype(int) + row_step, 0, height - 1)
        columns = np.clip(np.floor(positions_rc[:, 1]).astype(int) + column_step, 0, width - 1)
        picture[rows, columns] = (255, 224, 64)
    return picture


def color_regions(background: Picture, regions: npt.NDArray[np.int32]) -> Picture:
    """Lay a colour per region over the image; neighbours differ, as colours are drawn at random (always the same ones)."""
    present, inverse = np.unique(regions, return_inverse=True)
    colors = np.random.default_rng(0).integers(32, 256, (len(present), 3))
    return (0.5 * background + 0.5 * colors[inverse.reshape(regions.shape)]).astype(np.uint8)


def _to_bytes(values: npt.NDArray[Any]) -> Picture:
    """Map 0..1 to 0..255, clipping what lies outside."""
    picture: Picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return picture


def _repeat(grey: Picture) -> Picture:
    return np.repeat(grey[..., None], 3, axis=2)
