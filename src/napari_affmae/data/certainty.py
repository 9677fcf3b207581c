"""How sure a segmentation is of each pixel, kept beside the labels of a project: touching objects part where it is less so.

A file belongs to the labels that it was written for. It says nothing of others that have taken their place since.
"""

from __future__ import annotations

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..whole_file import replace_file


def keep_certainty(path: Path, labels: npt.NDArray[np.integer], certainty: npt.NDArray[np.uint8]) -> None:
    """Write how sure labels ``[H, W]``, ids up to 255, are of each pixel: ``[H, W]``, 0 to 255.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    file = BytesIO()
    np.savez_compressed(file, certainty=certainty, labels=_digest(labels))
    replace_file(path, file.getvalue())


def kept_certainty(path: Path, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8] | None:
    """Return how sure labels are of each pixel; None if that is not kept of them, or cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            certainty: npt.NDArray[np.uint8] = file["certainty"]
            is_theirs = np.array_equal(file["labels"], _digest(labels))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return certainty if is_theirs and certainty.shape == labels.shape and certainty.dtype == np.uint8 else None


def _digest(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    held = np.ascontiguousarray(labels, np.uint8)
    return np.frombuffer(hashlib.blake2b(held.data, digest_size=16).digest(), np.uint8)
