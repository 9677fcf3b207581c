"""The project folder: numbered runs, beside the labels.

``pretrain-1``, ``pretrain-2``, … and ``finetune-1``, … are run folders of the engine; for the labels see
:mod:`napari_affmae.data.project_folder`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..config import FinetuneConfig, PretrainConfig
from ..data.project_folder import read_project
from ..errors import ConfigError, StorageError, cannot_write
from ..model_places import RunKind, runs

CONFIG, LOG, CHECKPOINT = "config.json", "log.jsonl", "checkpoint.safetensors"
"""Files of a run that are looked at here; the engine, which writes them, would bring torch along when the dock opens."""


def default_project(source: str) -> Path:
    """Return where a project goes unless the user says otherwise: in the home folder, named after the images.

    Many folders are called ``images``: one whose name is taken by another folder gets a number.
    """
    name = re.sub(r"[^\w.-]+", "-", Path(source).name).strip("-.") or "project"
    places = (Path.home() / "napari-affmae" / (name if number == 1 else f"{name}-{number}") for number in range(1, 10**6))
    return next(place for place in places if not is_of_others(_source_of(place), source))


def is_of_others(begun_with: str, source: str) -> bool:
    """Whether a project that was begun with some images is none of these: the folder it was begun with is another one.

    One that is not there any more may have been moved.
    """
    return bool(begun_with and source) and begun_with != source and Path(begun_with).exists()


def _source_of(project: Path) -> str:
    try:
        return read_project(project).source
    except StorageError:
        # Whoever opens it says so.
        return ""


def new_run(project: Path, kind: RunKind) -> Path:
    """Make a run folder and return it. Live mode and training may ask at the same moment, and never get the same one.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    existing = runs(project, kind)
    number = int(existing[-1].name.rsplit("-", 1)[1]) if existing else 0
    while True:
        number += 1
        run = project / f"{kind}-{number}"
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise cannot_write(run, error) from error
        return run


@dataclass(frozen=True)
class Interrupted:
    """A run that was cut short and can go on.

    Attributes
    ----------
    run
        Its folder.
    config
        The settings that it was started with.
    start
        What finetuning started from, as :func:`napari_affmae.finetune` takes it; empty for pretraining.
    """

    run: Path
    config: PretrainConfig | FinetuneConfig
    start: str = ""


def interrupted(project: Path, kind: Literal["pretrain", "finetune"]) -> Interrupted | None:
    """Return the last run of a kind in a project folder if it was cut short and can go on."""
    begun = [run for run in runs(project, kind) if any(run.iterdir())]
    if not begun:
        return None
    run = begun[-1]
    try:
        written = json.loads((run / CONFIG).read_bytes())
        lines = (json.loads(line) for line in reversed((run / LOG).read_text(encoding="utf-8").splitlines()))
        last = next(line for line in lines if "elapsed_seconds" in line)  # some are scores
        config = (PretrainConfig if kind == "pretrain" else FinetuneConfig)(**written["settings"])
        start = "" if kind == "pretrain" else str(written["start"])
        if written["job"] != kind or not (run / CHECKPOINT).is_file() or _is_over(config, last):
            return None
    except (OSError, ValueError, KeyError, StopIteration, TypeError, ConfigError):
        # Not a run, or one that ended before its first checkpoint.
        return None
    return Interrupted(run, config, start)


def _is_over(config: PretrainConfig | FinetuneConfig, last: dict[str, Any]) -> bool:
    """Whether the last logged step used up the budget. A run counted in epochs ends at once when it is taken up for nothing."""
    budget = config.budget
    if budget.steps is not None:
        return bool(last["step"] >= budget.steps)
    if budget.minutes is not None:
        return bool(last["elapsed_seconds"] >= 60 * budget.minutes)
    return False
