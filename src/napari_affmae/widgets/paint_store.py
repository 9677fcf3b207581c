"""Paint on disk: one TIFF per image in the project's ``paint`` folder, so that no stroke is lost when napari closes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from ..errors import StorageError


def paint_file(project: Path, image: str) -> Path:
    """Return the file that holds the paint of an image; folders in its name become ``__``."""
    return project / "paint" / (re.sub(r"[^\w.\[\],-]+", "__", image) + ".tif")


def save_paint(project: Path, paint: Mapping[str, npt.NDArray[np.uint8]]) -> list[Path]:
    """Write the paint of each image, whole or not at all; images without paint and without a file are left out.

    Raises
    ------
    StorageError
        If the folder cannot be written.
    """
    written = []
    for image, labels in paint.items():
        path = paint_file(project, image)
        if not labels.any() and not path.exists():
            continue
        partial = path.with_suffix(".tif.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(partial, labels, compression="zlib")
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(
                f"the paint could not be saved to {path}: {error.strerror or error}; choose another project folder in step 2"
            ) from error
        written.append(path)
    return written


def load_paint(project: Path, image: str) -> npt.NDArray[np.uint8] | None:
    """Return the paint saved for an image, or None if there is none that can be read."""
    path = paint_file(project, image)
    try:
        return np.asarray(tifffile.imread(path), np.uint8)
    except (OSError, ValueError):
        return None
