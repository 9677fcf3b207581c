"""The picture on a package: an image beside what the model makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..card import ClassInfo, Normalisation

_STRENGTH = 0.5
"""Part of the class's colour in the picture's right half."""

_MOST_SIDE = 512
"""Pixels; the Zoo wants covers of less than 500 kB."""


def write_cover(
    path: Path,
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.intp],
    classes: Sequence[ClassInfo],
    normalisation: Normalisation,
) -> None:
    """Write a PNG twice as wide as high: the image, and the image in the colours of its classes.

    Parameters
    ----------
    path
        File to write.
    image, labels
        Raw ``[C, T, T]``, and indices of classes ``[T, T]``.
    """
    low, high = (np.array(values, np.float32)[:, None, None] for values in (normalisation.low, normalisation.high))
    bright = np.clip((image - low) / np.maximum(high - low, 1e-12), 0, 1)
    # Three channels are colours, of others the first is shown.
    shown = (bright if len(bright) == 3 else np.repeat(bright[:1], 3, axis=0)).transpose(1, 2, 0) * 255
    colors = np.array([list(bytes.fromhex(info.color[1:])) for info in classes], np.float32)
    painted = (1 - _STRENGTH) * shown + _STRENGTH * colors[labels]
    picture = Image.fromarray(np.concatenate((shown, painted), axis=1).round().astype(np.uint8))
    if picture.height > _MOST_SIDE:
        picture = picture.resize((2 * _MOST_SIDE, _MOST_SIDE), Image.Resampling.BOX)
    picture.save(path, optimize=True)
