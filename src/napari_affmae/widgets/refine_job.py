"""Refining one segmentation in a worker thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..card import ClassInfo
from ..config import Refinement
from ..control import JobControl
from .job_runner import Job
from .jobs import Engine


@dataclass(frozen=True, eq=False)
class RefineDone:
    """A plane was refined: a :class:`~napari_affmae.engine.refine.Refined`, in ids of ``classes``."""

    name: str
    refined: Any
    classes: tuple[ClassInfo, ...]


def refine_job(engine: Engine, name: str, labels: Any, classes: Sequence[ClassInfo], settings: Refinement, result: Any) -> Job:
    """Refine ``labels``; ``result``, the segmentation they come from, knows classes and probabilities if it is not None."""
    table = tuple(classes if result is None else result.classes)

    def job(control: JobControl) -> Iterator[object]:
        probabilities = None if result is None else result.probabilities
        refined = engine.refine(labels, table, settings, probabilities)
        if not control.stop_requested:
            yield RefineDone(name, refined, table)

    return job
