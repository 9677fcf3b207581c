"""Refining one segmentation in a worker thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..card import ClassInfo
from ..config import Refinement
from ..control import JobControl
from ..data.certainty import kept_certainty
from .job_runner import Job
from .jobs import Engine


@dataclass(frozen=True, eq=False)
class RefineDone:
    """A plane was refined: a :class:`~napari_affmae.engine.refine.Refined`, in ids of ``classes``.

    ``by_shape`` says that nothing but the shape told its objects apart: how sure the prediction is was not kept.
    """

    name: str
    refined: Any
    classes: tuple[ClassInfo, ...]
    by_shape: bool


def refine_job(
    engine: Engine, name: str, labels: Any, classes: Sequence[ClassInfo], settings: Refinement, certainty: Path | None
) -> Job:
    """Refine ``labels``, in ids of ``classes``; ``certainty`` may keep how sure each pixel of them is."""
    table = tuple(classes)

    def job(control: JobControl) -> Iterator[object]:
        known = None if certainty is None else kept_certainty(certainty, labels)
        refined = engine.refine(labels, table, settings, known)
        if not control.stop_requested:
            yield RefineDone(name, refined, table, by_shape=known is None)

    return job
