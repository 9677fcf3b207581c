"""Plausible paint made from dense labels: what a person would scribble, for the demo and for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.graph import route_through_array

from ..errors import LabelError

_LEAST_STROKES = 3
_REACH = 44
_BRUSH = 2


def scribbles(labels: npt.NDArray[Any], fraction: float = 0.02, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Paint strokes over part of every class.

    A stroke runs between two points up to 44 pixels apart, keeps to the middle of its region as a careful hand does, and never
    leaves its class. Every class gets three strokes apart where it has room, so that some can be kept back for a score.

    Parameters
    ----------
    labels
        Dense ids ``[H, W]``, 0 to 254.
    fraction
        Part of each class to paint, 0 to 1.
    seed
        The same seed paints the same strokes.

    Returns
    -------
    uint8 ``[H, W]``
        Class id + 1 where there is paint, 0 elsewhere.

    Raises
    ------
    LabelError
        If the labels are not two-dimensional ids from 0 to 254, or the fraction is not between 0 and 1.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or not labels.size or labels.min() < 0 or labels.max() > 254:
        raise LabelError(f"expected ids from 0 to 254 of shape [H, W], got {labels.dtype} of shape {labels.shape}")
    if not 0 < fraction <= 1:
        raise LabelError(f"expected a fraction between 0 and 1, got {fraction}")
    rng = np.random.default_rng([seed, 0x5C])
    paint = np.zeros(labels.shape, np.uint8)
    for class_id in np.unique(labels).tolist():
        region = labels == class_id
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        places = np.flatnonzero(region)
        wanted = fraction * len(places)
        painted = strokes = 0
        # Strokes that cross earlier ones add little or nothing: the number of attempts is bounded.
        attempts = iter(range(20 * _LEAST_STROKES + int(wanted)))
        while (painted < wanted or strokes < _LEAST_STROKES) and next(attempts, None) is not None:
            window, line = stroke(depth, int(rng.choice(places)), rng)
            earlier = paint[window] == class_id + 1
            if strokes < _LEAST_STROKES and (ndimage.binary_dilation(line, iterations=2) & earlier).any():
                continue
            paint[window][line] = class_id + 1
            painted += int((line & ~earlier).sum())
            strokes += 1
    return paint


def stroke(
    depth: npt.NDArray[np.float64], start: int, rng: np.random.Generator
) -> tuple[tuple[slice, slice], npt.NDArray[np.bool_]]:
    """Return a window and a stroke in it that begins at a flat index; ``depth`` is the distance to the region's outside."""
    row, column = divmod(start, depth.shape[1])
    top, left = max(0, row - _REACH), max(0, column - _REACH)
    window = (slice(top, row + _REACH + 1), slice(left, column + _REACH + 1))
    local = depth[window]
    connected, _ = ndimage.label(local > 0)
    own = connected == connected[row - top, column - left]
    ends = np.flatnonzero(own)
    end = divmod(int(rng.choice(ends)), local.shape[1])
    cost = np.where(own, 1 + 6 / (1 + np.minimum(local, 12)), 1e6)
    path, _ = route_through_array(  # type: ignore[no-untyped-call]
        cost, (row - top, column - left), end, fully_connected=True, geometric=True
    )
    line = np.zeros(local.shape, np.bool_)
    line[tuple(np.transpose(path))] = True
    return window, (ndimage.distance_transform_edt(~line) <= _BRUSH) & own
