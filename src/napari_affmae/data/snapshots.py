"""Snapshots of a project: its labels, classes, states and model as they were, to go back to.

A snapshot is a folder ``snapshots/<time>`` with ``project.json``, ``labels``, ``model.safetensors`` if there was a model, and
``snapshot.json`` about it. Files are shared with the project by hard links where the disk can: whoever changes them puts a new
file in their place, so the snapshot keeps the old one.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..errors import StorageError
from ..model_places import MODEL_FILE
from ..words import thousands
from .project_folder import ProjectFile, read_project, write_json, write_project
from .write import place_whole

SNAPSHOTS = "snapshots"
_ABOUT = "snapshot.json"
_LABELS = "labels"


@dataclass(frozen=True)
class Snapshot:
    """One snapshot.

    Attributes
    ----------
    path
        Its folder.
    time
        When it was taken, ISO 8601 to the second, local time.
    reason
        Why, in a few words for people.
    pixels
        Painted pixels in all images.
    model
        The model file, or None.
    """

    path: Path
    time: str
    reason: str
    pixels: int
    model: Path | None

    def describe(self) -> str:
        """Return one line for people."""
        model = "with model" if self.model is not None else "no model"
        return f"{self.time.replace('T', ' ')} · {self.reason} · {thousands(self.pixels)} px · {model}"


def take_snapshot(folder: Path, model: Path | None = None, reason: str = "taken by hand") -> Snapshot:
    """Keep the present state of a project. Nothing may write to it meanwhile.

    Raises
    ------
    StorageError
        If the project cannot be read or the snapshot not be written.
    """
    project = read_project(folder)
    now = datetime.now().replace(microsecond=0)
    pixels = sum(project.painted(project.images).values())
    about = {"time": now.isoformat(), "reason": reason, "pixels": pixels}

    def write(place: Path) -> None:
        place.mkdir()
        _copy_tree(folder / project.labels, place / _LABELS)
        write_project(place, _moved(project, _LABELS))
        if model is not None:
            _copy(model, place / MODEL_FILE)
        write_json(place / _ABOUT, about)

    stem = now.strftime("%Y-%m-%d %H.%M.%S")
    names = (stem if number == 1 else f"{stem} ({number})" for number in range(1, 10**6))
    path = next(folder / SNAPSHOTS / name for name in names if not (folder / SNAPSHOTS / name).exists())
    return _read(place_whole(path, write, overwrite=False))


def snapshots(folder: Path) -> list[Snapshot]:
    """Return the snapshots of a project, newest first; what is none is left out."""
    found = []
    places = (folder / SNAPSHOTS).iterdir() if (folder / SNAPSHOTS).is_dir() else ()
    for place in places:
        try:
            found.append(_read(place))
        except StorageError:
            continue
    return sorted(found, key=lambda one: (one.time, one.path.name), reverse=True)


def find_snapshot(folder: Path, name: str) -> Snapshot:
    """Return the snapshot of a name, or raise :class:`StorageError` with the names that there are."""
    there = snapshots(folder)
    for one in there:
        if one.path.name == name:
            return one
    listed = ", ".join(f"“{one.path.name}”" for one in there) or "none"
    raise StorageError(f"{folder} has no snapshot “{name}”; there are: {listed}")


def restore_snapshot(folder: Path, snapshot: Snapshot, model: Path | None = None) -> Path | None:
    """Go back to a snapshot; the present state is kept as a snapshot first. Nothing may write to the project meanwhile.

    The labels go into a new folder, and ``project.json``, replaced whole, points there: a crash leaves the one or the other.

    Parameters
    ----------
    model
        The model that is in use now, for the snapshot of the present.

    Returns
    -------
    Path or None
        The model file of the snapshot, or None if it holds none.

    Raises
    ------
    StorageError
        If the snapshot cannot be read or the project not be written.
    """
    present = read_project(folder)
    take_snapshot(folder, model, f"before going back to {snapshot.time.replace('T', ' ')}")
    past = read_project(snapshot.path)
    number = 2
    while (folder / f"{_LABELS}-{number}").exists():
        number += 1
    name = f"{_LABELS}-{number}"

    def write(place: Path) -> None:
        place.mkdir()
        _copy_tree(snapshot.path / _LABELS, place)

    place_whole(folder / name, write, overwrite=False)
    if snapshot.model is not None:
        past = past.replace(settings=past.settings.replace(segmenter=f"{SNAPSHOTS}/{snapshot.path.name}/{MODEL_FILE}"))
    write_project(folder, _moved(past, name))
    shutil.rmtree(folder / present.labels, ignore_errors=True)
    return snapshot.model


def _moved(project: ProjectFile, labels: str) -> ProjectFile:
    """Return the project with its labels in another folder."""
    images = {
        image: entry.replace(labels=labels + entry.labels.removeprefix(project.labels))
        for image, entry in project.images.items()
    }
    return project.replace(images=images, labels=labels)


def _read(place: Path) -> Snapshot:
    try:
        about = json.loads((place / _ABOUT).read_bytes())
        model = place / MODEL_FILE
        return Snapshot(
            place, str(about["time"]), str(about["reason"]), int(about["pixels"]), model if model.is_file() else None
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{place} is no snapshot: {error}") from error


def _copy_tree(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(
            source, target, copy_function=_copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.partial", ".*")
        )


def _copy(source: str | Path, target: str | Path) -> str:
    """Share a file by a hard link, or copy it where that cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return str(target)
