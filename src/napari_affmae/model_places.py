"""Where model files lie: in run folders, and in the numbered runs of a project, which says which of them are in use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from .errors import ModelFileError

MODEL_FILE = "model.safetensors"
"""Name of the model inside a run folder."""

PROJECT_FILE = "project.json"
"""Name of the file of a project that says, next to much else, which models are in use."""

RunKind = Literal["pretrain", "finetune", "compare"]

IN_USE: dict[RunKind, str] = {"finetune": "segmenter", "pretrain": "pretrained"}
"""Settings of a project that name its models in use, those with classes first."""


def locate_model(path: str | Path) -> Path:
    """Return the model file at a path, in the run folder at that path, or that the project folder there has in use.

    Of a project, a network with classes goes before one without; see :func:`models_of`. Raises :class:`ModelFileError` if there
    is none.
    """
    path = Path(path)
    if path.is_dir():
        inside = path / MODEL_FILE
        if not inside.is_file():
            inside = next(_in_use(path), inside)
        if not inside.is_file():
            raise ModelFileError(f"no model in {path}: expected a file {MODEL_FILE}; has the run saved one yet?")
        return inside
    if not path.is_file():
        raise ModelFileError(f"no model at {path}: give a model file or a run folder")
    return path


def models_of(project: Path, kind: RunKind, place: str | None) -> Iterator[Path]:
    """Yield the model files of a project that are there, the one to use first: that in use, then the newest ones.

    Parameters
    ----------
    place
        The model in use, as seen from the project folder; empty for none, which ends it, None if that is not known.
    """
    if place == "":
        return
    places = [] if place is None else [project / place]
    places += [run / MODEL_FILE for run in reversed(runs(project, kind))]
    yield from filter(_is_there, places)


def runs(project: Path, kind: RunKind) -> list[Path]:
    """Return the run folders of a kind in a project, oldest first."""
    numbered = []
    if project.is_dir():
        for path in project.iterdir():
            match = re.fullmatch(rf"{kind}-(\d+)", path.name)
            if match and path.is_dir():
                numbered.append((int(match[1]), path))
    return [path for _, path in sorted(numbered)]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # on a share that is away: another one will do
        return False


def _in_use(project: Path) -> Iterator[Path]:
    try:
        settings = json.loads((project / PROJECT_FILE).read_bytes())["settings"]
        kept = {kind: settings[name] for kind, name in IN_USE.items()}
    except (OSError, ValueError, KeyError, TypeError):  # no project, or one that never kept it
        kept = dict.fromkeys(IN_USE)
    for kind, place in kept.items():
        yield from models_of(project, kind, place)
