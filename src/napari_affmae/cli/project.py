"""``napari-affmae project``: what is labelled in a project folder of the dock, and its snapshots."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ..errors import StorageError
from ..words import count, thousands
from .options import AsJson
from .output import print_result

Folder = Annotated[Path, Parameter(help="Project folder of the dock.")]

project = App(name="project", help="Labels of a project folder: what is there, snapshots, and going back to one.")


@project.command
def show(folder: Folder, /, *, json: AsJson = False) -> None:
    """List classes with their painted pixels, the state of the images, and snapshots."""
    from ..data.project_folder import read_project
    from ..data.snapshots import snapshots

    there = read_project(_checked(folder))
    painted = there.painted(there.images)
    states = Counter(entry.state for entry in there.images.values())
    taken = snapshots(folder)
    result = {
        "source": there.source,
        "classes": {info.name: painted.get(info.id, 0) for info in there.classes},
        "states": dict(states),
        "images": {image: entry.state for image, entry in there.images.items()},
        "snapshots": [one.path.name for one in taken],
    }
    shown = {
        "source": there.source,
        "classes": {info.name: count(painted.get(info.id, 0), "painted pixel") for info in there.classes},
        "images": ", ".join(f"{thousands(number)} {state}" for state, number in states.items()) or "none touched yet",
        "snapshots": {one.path.name: f"{one.reason}, {count(one.pixels, 'painted pixel')}" for one in taken},
    }
    print_result(result, json, shown)


@project.command
def snapshot(
    folder: Folder,
    /,
    *,
    reason: Annotated[str, Parameter(help="A few words on why.")] = "taken by hand",
    json: AsJson = False,
) -> None:
    """Keep labels, classes and the network in use as they are. Close the dock on this project first."""
    from ..data.snapshots import take_snapshot

    taken = take_snapshot(_checked(folder), _segmenter(folder), reason)
    print_result({"snapshot": taken.path.name, "pixels": taken.pixels, "model": taken.model}, json)


@project.command
def restore(
    folder: Folder,
    name: Annotated[str, Parameter(help="Name of the snapshot, as `project show` lists it.")],
    /,
    *,
    json: AsJson = False,
) -> None:
    """Go back to a snapshot; what is there now becomes a snapshot first. Close the dock on this project before."""
    from ..data.snapshots import find_snapshot, restore_snapshot

    chosen = find_snapshot(_checked(folder), name)
    model = restore_snapshot(folder, chosen, _segmenter(folder))
    print_result({"restored": chosen.path.name, "pixels": chosen.pixels, "model": model}, json)


def _checked(folder: Path) -> Path:
    from ..data.project_folder import is_project
    from ..model_places import PROJECT_FILE

    if not is_project(folder):
        raise StorageError(f"{folder} is no project: expected a file {PROJECT_FILE}; paint something in the dock first")
    return folder


def _segmenter(folder: Path) -> Path | None:
    """Return the network with classes that the project has in use, if it has one."""
    from ..errors import ModelFileError
    from ..model_header import read_card
    from ..model_places import locate_model

    try:
        model = locate_model(folder)
        return model if read_card(model).kind == "segmenter" else None
    except ModelFileError:
        return None
