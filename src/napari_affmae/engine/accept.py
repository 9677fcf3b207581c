"""Turns predictions into paint: the part of a prediction that is accepted, and never where something is painted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.draw import polygon2mask

Ids = npt.NDArray[Any]


def accept_region(prediction: Ids, paint: Ids, at: tuple[int, int], classes: Collection[int]) -> Ids:
    """Return what to paint to accept the connected predicted region at a pixel.

    Parameters
    ----------
    prediction, paint
        Ids ``[H, W]``; 0 stands for nothing. Pixels that share an edge are connected.
    at
        Row and column.
    classes
        Ids that can be painted.

    Returns
    -------
    ids ``[H, W]``, 0 where nothing is to be painted
    """
    class_id = prediction[at]
    if int(class_id) not in classes or not class_id:
        return np.zeros_like(paint)
    regions, _ = ndimage.label(prediction == class_id)
    return np.where((regions == regions[at]) & (paint == 0), class_id, 0).astype(paint.dtype)


def accept_inside(prediction: Ids, paint: Ids, outline: Sequence[tuple[float, float]], classes: Collection[int]) -> Ids:
    """Return what to paint to accept the prediction inside a closed outline of rows and columns; see :func:`accept_region`.

    Where the outline crosses itself, what it surrounds an even number of times is outside.
    """
    inside = polygon2mask(prediction.shape, np.asarray(outline, float))
    taken = inside & (paint == 0) & np.isin(prediction, [one for one in classes if one])
    return np.where(taken, prediction, 0).astype(paint.dtype)
