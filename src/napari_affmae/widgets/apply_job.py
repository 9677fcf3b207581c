"""Segmenting many images into files in the worker thread; the dock gets what it can show of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo
from ..config import ApplyConfig
from ..control import JobControl
from ..data.certainty import keep_certainty
from ..data.records import ImageCollection, ImageRecord
from ..events import ImageBegun, ImageWritten
from .class_ids import class_table
from .image_jobs import Segmented
from .job_runner import Job
from .jobs import Engine
from .plane import LARGEST_IN_MEMORY
from .state import ModelOnDisk
from .warnings_once import OncePerJob


@dataclass(frozen=True, eq=False)
class ImageApplied:
    """What was written of an image, before it was refined, as layers hold it."""

    record: ImageRecord
    result: Segmented


def apply_job(
    engine: Engine,
    model: ModelOnDisk,
    images: ImageCollection,
    project: Path,
    out: Path | None,
    config: ApplyConfig,
    certainty_of: Callable[[str], Path | None],
    accepted: Collection[str],
    *,
    overwrite: bool,
) -> Job:
    """Segment all images into ``out``; None goes on with the latest folder of the project that fits, or makes a new one.

    How sure the result for an image is, is kept where ``certainty_of`` its name says. The dock gets none of images that are
    accepted: what they show was found good.
    """

    def job(control: JobControl) -> Iterator[object]:
        folder = engine.output_folder(project, model.path, images, config) if out is None else out
        classes = class_table(model)
        rows = _Rows(engine, classes)
        records = {record.name: record for record in images.records}
        once, name = OncePerJob(), ""
        for event in engine.apply(model.path, images, folder, config, overwrite=overwrite, control=control, also=rows):
            yield from once.of_image(name, [event]) if name else [event]
            if isinstance(event, ImageBegun):
                name = event.name
                fits = records[event.name].height * records[event.name].width <= LARGEST_IN_MEMORY
                rows.begin(fits and event.name not in accepted)
            elif isinstance(event, ImageWritten) and rows.labels:
                labels, path = np.concatenate(rows.labels), certainty_of(event.name)
                if path is not None:
                    with suppress(OSError):
                        keep_certainty(path, labels, np.concatenate(rows.certainty))
                yield ImageApplied(records[event.name], Segmented(labels, classes))

    return job


class _Rows:
    """Labels and their certainty of the image that is worked on, from rows of probabilities, if the dock is to show them."""

    def __init__(self, engine: Engine, classes: Sequence[ClassInfo]) -> None:
        self._engine = engine
        self._classes = classes
        self.begin(False)

    def begin(self, wanted: bool) -> None:
        self._wanted = wanted
        self.labels: list[npt.NDArray[np.uint8]] = []
        self.certainty: list[npt.NDArray[np.uint8]] = []

    def __call__(self, top: int, probabilities: Any) -> None:
        if self._wanted:
            self.labels.append(self._engine.labels(probabilities, self._classes))
            self.certainty.append(self._engine.certainty(probabilities))
