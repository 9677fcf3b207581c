"""Looking for places to paint in a worker thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..config import DeviceName
from ..control import JobControl
from ..data.predicted_image import PredictedImage
from ..data.records import ImageRecord
from ..events import Done
from .job_runner import Job
from .jobs import Engine
from .large import STEP

if TYPE_CHECKING:
    from ..data.suggestions import Suggestions

PLACES = 10


@dataclass(frozen=True)
class SuggestDone:
    """Places were found."""

    suggestions: Suggestions


@dataclass(frozen=True, eq=False)
class Unsure:
    """How unsure the prediction of an image is, as its layer has it: 0 where nothing was predicted; ``step`` as there."""

    record: ImageRecord
    values: npt.NDArray[Any]
    step: int


def suggest_job(
    engine: Engine,
    model: Path,
    unsure: Sequence[Unsure],
    paint: Sequence[tuple[ImageRecord, Any]],
    device: DeviceName,
    rescale: bool,
) -> Job:
    """Suggest places in all images with a prediction, by the features of ``model``; paint as in :func:`~.jobs.finetune_job`."""

    def job(control: JobControl) -> Iterator[object]:
        images = list(_images(engine, unsure, paint))
        for event in engine.suggest(model, images, count=PLACES, device=device, rescale=rescale, control=control):
            if not isinstance(event, Done):
                yield event
            elif event.result is not None:
                yield SuggestDone(event.result)

    return job


def _images(engine: Engine, unsure: Sequence[Unsure], paint: Sequence[tuple[ImageRecord, Any]]) -> Iterator[PredictedImage]:
    painted = {record.name: (record, labels) for record, labels in paint}
    for one in unsure:
        if one.values.any():
            values = np.where(one.values > 0, one.values, np.nan)
            if one.step == 1:
                # Means are enough, and of many slices the values themselves are much.
                values = engine.cell_means(values, STEP)
            _, labels = painted.pop(one.record.name, (None, None))
            yield PredictedImage(one.record, values, _read(labels), max(one.step, STEP))
    for record, labels in painted.values():
        yield PredictedImage(record, None, _read(labels))


def _read(labels: Any) -> npt.NDArray[Any] | None:
    """Return paint; that of images that are not open is read here, beside the window's thread."""
    read: npt.NDArray[Any] | None = labels.read() if hasattr(labels, "read") else labels
    return read
