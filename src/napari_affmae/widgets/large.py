"""Images too large to hold the result in memory: segmented into an OME-Zarr of the project, and shown from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from ..card import ClassInfo
from ..config import ApplyConfig
from ..control import JobControl
from ..data.classes import class_table_of
from ..data.records import ImageCollection, ImageRecord
from ..events import ImageWritten
from .job_runner import Job
from .jobs import Engine
from .state import ModelOnDisk

FOLDER = "large"
"""Where in the project the results lie; a new one replaces that of the same image."""

STEP = 8
"""Side in pixels of the squares whose mean uncertainty is shown."""


@dataclass(frozen=True)
class LargeDone:
    """A large image was segmented into an OME-Zarr, in ids of the network's own ``classes``.

    ``uncertainty`` holds means over squares of :data:`STEP` pixels: of so many pixels, each would be too much to keep.
    """

    name: str
    path: Path
    classes: tuple[ClassInfo, ...]
    uncertainty: npt.NDArray[np.float32]


def large_job(engine: Engine, model: ModelOnDisk, record: ImageRecord, project: Path, config: ApplyConfig) -> Job:
    """Segment one image into the project, tile by tile."""

    def job(control: JobControl) -> Iterator[object]:
        means = engine.uncertainty_means(record.height, record.width, STEP)
        images = ImageCollection((record,))
        for event in engine.apply(model.path, images, project / FOLDER, config, overwrite=True, control=control, also=means):
            yield event
            if isinstance(event, ImageWritten):
                yield LargeDone(record.name, event.outputs[0], class_table_of(model), means.means)

    return job


def levels_of(path: Path) -> list[Any]:
    """Return the scales of a stored segmentation, finest first, as arrays that are read part by part."""
    group = zarr.open_group(path, mode="r")["labels/segmentation"]
    ome: Any = group.attrs["ome"]
    return [group[dataset["path"]] for dataset in ome["multiscales"][0]["datasets"]]
