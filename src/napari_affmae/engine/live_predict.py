"""Predict an image from what is visible outwards, and hand out what is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..events import LivePrediction
from .live_tiles import Canvas, Region, TiledImage, finished_bands
from .tiling import FloatArray

_SECONDS_BETWEEN_PARTS = 0.5
"""The rest of an image is handed out in bands, at most this often."""


def predict_outwards(
    image: TiledImage,
    visible: Region | None,
    ids: npt.NDArray[np.uint8],
    predict: Callable[[FloatArray, FloatArray], FloatArray],
    told: Callable[[Region, npt.NDArray[np.uint8], bool, FloatArray], LivePrediction],
    stale: Callable[[], bool],
) -> Iterator[LivePrediction]:
    """Predict what is visible, then the rest of what fits into memory; nothing more once it is stale.

    Parameters
    ----------
    visible
        What is predicted first; None for all of it.
    ids
        Id of each class.
    predict
        From a tile ``[C, T, T]`` and the background ``[C]`` of its image to probabilities ``[K, T, T]``.
    told
        Makes the event of a region, its labels, whether that is the end of what is visible, and how unsure they are.
    """
    visible = (visible or image.whole).within(image.whole)
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
                if stale():
                    return
            waiting = band if waiting is None else replace(waiting, bottom=band.bottom)
            complete = band.bottom == region.bottom
            if complete or time.perf_counter() - last >= _SECONDS_BETWEEN_PARTS:
                yield told(waiting, ids[canvas.classes(waiting)], complete and tiles is first, canvas.uncertainty(waiting))
                waiting, last = None, time.perf_counter()
