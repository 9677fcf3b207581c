"""An image with what is known of it when places to paint are looked for: how unsure its prediction is, and what is painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from .records import ImageRecord


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """What the search for places knows of one image.

    Attributes
    ----------
    record
        The image.
    uncertainty
        ``[ceil(H / step), ceil(W / step)]``, 0 to 1, NaN where nothing was predicted; None if nothing was at all, so that
        its paint counts but no place in it is suggested.
    paint
        Ids ``[H, W]``, 0 where nothing is painted; None if nothing is.
    step
        Side in pixels of the squares that a value of ``uncertainty`` is the mean of.
    """

    record: ImageRecord
    uncertainty: npt.NDArray[Any] | None = None
    paint: npt.NDArray[Any] | None = None
    step: int = 1
