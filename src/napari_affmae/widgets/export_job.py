"""The job of the share part: write the package, in the worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ExportConfig
from ..control import JobControl

if TYPE_CHECKING:
    from ..data.records import ImageRecord
    from .job_runner import Job
    from .jobs import Engine


def export_job(engine: Engine, model: Path, out: Path, config: ExportConfig, sample: ImageRecord | None) -> Job:
    """Export ``model`` to ``out``; the user has said yes to replacing a file there."""

    def job(control: JobControl) -> Iterator[object]:
        yield from engine.export(model, out, config, sample=sample, control=control)

    return job
