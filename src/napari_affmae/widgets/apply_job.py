"""Segmenting many images into files in the worker thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..config import ApplyConfig
from ..control import JobControl
from ..data.records import ImageCollection
from .job_runner import Job
from .jobs import Engine


def apply_job(
    engine: Engine,
    model: Path,
    images: ImageCollection,
    project: Path,
    out: Path | None,
    config: ApplyConfig,
    *,
    overwrite: bool,
) -> Job:
    """Segment all images into ``out``; None goes on with the latest folder of the project that fits, or makes a new one."""

    def job(control: JobControl) -> Iterator[object]:
        folder = engine.output_folder(project, model, images, config) if out is None else out
        yield from engine.apply(model, images, folder, config, overwrite=overwrite, control=control)

    return job
