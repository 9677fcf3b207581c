"""What tests of files share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_affmae.card import ClassInfo, PixelSize
from napari_affmae.data.outputs import Outputs, writing

CLASS = ClassInfo(id=255, name="rest", color="#0072b2")


@pytest.fixture
def write_zarr() -> Callable[..., Path]:
    """Write an image and its labels as an OME-Zarr, as segmenting into a folder does."""

    def write(
        path: Path,
        image: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[ClassInfo] = (CLASS,),
        *,
        probabilities: np.ndarray | None = None,
        pixel_size: PixelSize | None = None,
        overwrite: bool = False,
    ) -> Path:
        pixels = image if image.ndim == 3 else image[..., None]
        settings = {"probabilities": probabilities is not None, "pixel_size": pixel_size, "overwrite": overwrite}
        with writing(Outputs(path), pixels, classes, **settings) as rows:
            rows.write(0, labels, probabilities)
        return path

    return write
