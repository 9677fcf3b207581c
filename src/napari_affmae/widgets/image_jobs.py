"""Jobs on images that are shown: segmenting one after the other, and looking inside the network at one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import DeviceName, Views
from ..control import JobControl
from ..data.certainty import keep_certainty
from ..errors import AffmaeError
from ..events import Done
from .class_ids import in_layers, labels_in_layers
from .warnings_once import OncePerJob

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..card import ClassInfo, PixelSize
    from ..data.records import ImageRecord
    from .job_runner import Job
    from .jobs import Engine


@dataclass(frozen=True, eq=False)
class Segmented:
    """A segmentation in the ids that layers hold: ``labels [H, W]``, and ``probabilities [K, H, W]``, None if not known."""

    labels: npt.NDArray[Any]
    classes: tuple[ClassInfo, ...]
    probabilities: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ImageDone:
    """A result for one image: a :class:`Segmented` with how unsure it is of each pixel, or a look inside."""

    name: str
    result: Any
    uncertainty: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ImageFailed:
    """One of several images could not be segmented; the others go on."""

    name: str
    error: AffmaeError


@dataclass(frozen=True)
class Working:
    """Which image is being worked on: number ``place`` (from 1) of ``count``."""

    name: str
    place: int
    count: int


def one_after_the_other(jobs: Sequence[tuple[str, Job]]) -> Job:
    """Do jobs on images, given by their names.

    With several images, one that fails is reported as :class:`ImageFailed` and the others go on, and warnings are said once.
    """

    def job(control: JobControl) -> Iterator[object]:
        once = OncePerJob()
        for place, (name, part) in enumerate(jobs, start=1):
            if control.stop_requested:
                return
            yield Working(name, place, len(jobs))
            try:
                yield from part(control) if len(jobs) == 1 else once.of_image(name, part(control))
            except AffmaeError as error:
                if len(jobs) == 1:
                    raise
                yield ImageFailed(name, error)

    return job


def segment_job(
    engine: Engine,
    model: Path,
    record: ImageRecord,
    pixel_size: PixelSize | None,
    device: DeviceName,
    views: Views,
    certainty: Path | None = None,
) -> Job:
    """Segment an image; a pixel size rescales it to the model's pixels. How sure the result is, is kept in ``certainty``."""

    def job(control: JobControl) -> Iterator[object]:
        for event in engine.segment(
            model, record.load(), device=device, pixel_size=pixel_size, views=views, control=control
        ):  # fmt: skip
            if not isinstance(event, Done):
                yield event
            elif event.result is not None:
                own = event.result
                shown = Segmented(labels_in_layers(own.labels, own.classes), in_layers(own.classes), own.probabilities)
                if certainty is not None:
                    # Before anybody can refine it. Without it objects are told apart by shape, which is said then.
                    with suppress(OSError):
                        keep_certainty(certainty, shown.labels, engine.certainty(own.probabilities))
                yield ImageDone(record.name, shown, engine.uncertainty(own.probabilities))

    return job


def inspect_job(
    engine: Engine, model: Path, record: ImageRecord, region: tuple[slice, slice] | None, device: DeviceName
) -> Job:
    """Look inside the network at one image, or at a region of it."""

    def job(control: JobControl) -> Iterator[object]:
        yield ImageDone(record.name, engine.inspect(model, record.open(), region=region, device=device))

    return job
