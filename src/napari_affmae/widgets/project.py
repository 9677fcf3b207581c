"""The project folder: numbered runs and the paint, side by side.

``pretrain-1``, ``pretrain-2``, … and ``finetune-1``, … are run folders of the engine; ``paint`` belongs to
:mod:`.paint_store`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

RunKind = Literal["pretrain", "finetune"]


def default_project(source: str) -> Path:
    """Return where a project goes unless the user says otherwise: in the home folder, named after the images."""
    name = re.sub(r"[^\w.-]+", "-", Path(source).name).strip("-.") or "project"
    return Path.home() / "napari-affmae" / name


def runs(project: Path, kind: RunKind) -> list[Path]:
    """Return the runs of a kind, oldest first."""
    numbered = []
    if project.is_dir():
        for path in project.iterdir():
            match = re.fullmatch(rf"{kind}-(\d+)", path.name)
            if match and path.is_dir():
                numbered.append((int(match[1]), path))
    return [path for _, path in sorted(numbered)]


def next_run(project: Path, kind: RunKind) -> Path:
    """Return a run folder that does not exist yet."""
    existing = runs(project, kind)
    number = int(existing[-1].name.rsplit("-", 1)[1]) + 1 if existing else 1
    return project / f"{kind}-{number}"
