"""The project folder: numbered runs, beside the labels.

``pretrain-1``, ``pretrain-2``, … and ``finetune-1``, … are run folders of the engine; for the labels see
:mod:`napari_affmae.data.project_folder`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..config import FinetuneConfig, PretrainConfig
from ..data.project_folder import read_project
from ..errors import ConfigError, ModelFileError, StorageError, cannot_write
from ..model_places import RunKind, runs
from ..words import NOT_FITTED

CONFIG, LOG, CHECKPOINT = "config.json", "log.jsonl", "checkpoint.safetensors"
"""Files of a run that are looked at here; the engine, which writes them, would bring torch along when the dock opens."""

LOOKED_AT = 1 << 16
"""Bytes at the end of a log that hold its last step."""


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
class LastRun:
    """The last run of its kind in a project, which can go on.

    Attributes
    ----------
    run
        Its folder.
    config
        The settings that it was started with.
    start
        What finetuning started from, as :func:`napari_affmae.finetune` takes it; empty for pretraining.
    seconds
        What it has spent of its time.
    is_over
        Whether it came to its end; otherwise it was cut short.
    """

    run: Path
    config: PretrainConfig | FinetuneConfig
    start: str
    seconds: float
    is_over: bool

    @property
    def done(self) -> float | None:
        """How much of its time it has spent, 0 to 1; None if it is not counted in minutes."""
        minutes = self.config.budget.minutes
        return None if minutes is None else min(self.seconds / (60 * minutes), 1.0)


def last_run(project: Path, kind: Literal["pretrain", "finetune"]) -> LastRun | None:
    """Return the last run of a kind in a project folder that came to its first checkpoint, or None if it cannot go on."""
    # What live mode saves is no run; and one that was stopped at once left nothing that could go on in place of the one before.
    begun = [run for run in runs(project, kind) if (run / CONFIG).is_file() and (run / CHECKPOINT).is_file()]
    if not begun:
        return None
    run = begun[-1]
    try:
        written = json.loads((run / CONFIG).read_bytes())
        last = _last_step(run / LOG)
        config = (PretrainConfig if kind == "pretrain" else FinetuneConfig)(**written["settings"])
        start = "" if kind == "pretrain" else str(written["start"])
        step, logged = int(last["step"]), float(last["elapsed_seconds"])
        if written["job"] != kind:
            return None
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        # Not a run, or one whose files are damaged.
        return None
    record = _model_record(run)
    # The checkpoint knows what the log does not: the time after the last step.
    seconds = max(logged, record.get("seconds", 0.0))
    return LastRun(run, config, start, seconds, _is_over(config, step, seconds) and _is_whole(record, step))


def _last_step(log: Path) -> dict[str, Any]:
    """Return the last step that was logged; raise KeyError if there is none. Some lines are scores, and one may be cut."""
    with log.open("rb") as file:
        # This is the window's thread, and the log of a night is long.
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOOKED_AT))
        lines = file.read().splitlines()
    for line in reversed(lines):
        with suppress(ValueError):
            logged = json.loads(line)
            if "elapsed_seconds" in logged:
                return dict(logged)
    raise KeyError(log.name)


def _model_record(run: Path) -> Mapping[str, Any]:
    """Return what the model of a run says of its training; empty if it is lost: a run that goes on writes it again."""
    from ..model_header import read_card  # brings libraries along that the dock does not open with

    try:
        return read_card(run).card.history[-1]
    except (ModelFileError, IndexError):
        return {}


def _is_whole(record: Mapping[str, Any], step: int) -> bool:
    """Whether a model is what the last step of its run left, with a readout where the labels are strokes.

    One that is lost, or says nothing of that, passes for whole: its run cannot be taken up for nothing.
    """
    return bool(record.get("steps", step) >= step) and record.get("figures", {}).get("classes_from") != NOT_FITTED


def _is_over(config: PretrainConfig | FinetuneConfig, step: int, seconds: float) -> bool:
    """Whether a run has used up its budget. One that is counted in epochs ends at once when it is taken up for nothing."""
    budget = config.budget
    if budget.steps is not None:
        return step >= budget.steps
    return budget.minutes is not None and seconds >= 60 * budget.minutes
