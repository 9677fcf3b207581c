"""Predict an image from what is visible outwards, and hand out what is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..control import LiveControl
from ..data.records import ImageRecord
from ..events import LivePrediction
from .live_tiles import Canvas, Region, TiledImage, finished_bands
from .tiling import FloatArray

_SECONDS_BETWEEN_PARTS = 0.5
"""The rest of an image is handed out in bands, at most this often."""


def predict_outwards(
    name: str,
    image: TiledImage,
    visible: Region | None,
    ids: npt.NDArray[np.uint8],
    predict: Callable[[FloatArray, FloatArray], FloatArray],
    control: LiveControl,
    generation: int,
) -> Iterator[LivePrediction]:
    """Predict what is visible, then the rest of what fits into memory; nothing more once the generation is stale.

    Parameters
    ----------
    name
        Of the image.
    visible
        What is predicted first; None, or a region beside the image, for all of it.
    ids
        Id of each class.
    predict
        From a tile ``[C, T, T]`` and the background ``[C]`` of its image to probabilities ``[K, T, T]``.
    """
    visible = (visible or image.whole).within(image.whole)
    if 0 in visible.shape:
        visible = image.whole
    extent = image.surroundings(visible, len(ids))
    visible = visible.within(extent)
    canvas = Canvas(image, extent)
    first = image.tiles(visible)
    shown = set(first)
    rest = [tile for tile in image.tiles(extent) if tile not in shown]
    parts = [(first, visible), (rest, extent)]
    for tiles, region in parts if visible != extent else parts[:1]:
        waiting: Region | None = None
        last = time.perf_counter()
        for row, band in finished_bands(tiles, region):
            for tile in row:
                canvas.add(tile, predict(image.read(*tile), image.background))
                if control.stale(generation):
                    return
            waiting = band if waiting is None else replace(waiting, bottom=band.bottom)
            complete = band.bottom == region.bottom
            if complete or time.perf_counter() - last >= _SECONDS_BETWEEN_PARTS:
                labels, unsure = ids[canvas.classes(waiting)], canvas.uncertainty(waiting)
                is_visible = complete and tiles is first
                yield LivePrediction("live", generation, name, waiting.top, waiting.left, labels, is_visible, unsure)
                waiting, last = None, time.perf_counter()


def nothing_on(image: ImageRecord, generation: int) -> LivePrediction:
    """Return what takes an earlier prediction off an image: 0 everywhere, unsure nowhere."""
    shape = image.height, image.width
    labels, unsure = np.broadcast_to(np.uint8(0), shape), np.broadcast_to(np.float32(0), shape)
    return LivePrediction("live", generation, image.name, 0, 0, labels, True, unsure)
