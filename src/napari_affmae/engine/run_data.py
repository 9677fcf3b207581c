"""What a run learns from: kept in its folder, so that a resumed run goes on with the same images and labels or not at all.

``data.json`` holds the fingerprint of each image and of its labels by name. Names are relative to the folder of images, which
may have moved; a list of files that was given at the start shows in the names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..data.fingerprint import label_fingerprint
from ..data.label_images import LabelledImage
from ..data.records import ImageRecord
from ..errors import OtherDataError, StorageError
from ..events import Event, Job, Notice
from ..settings import Settings
from ..words import count, some_names
from .checkpoint import Checkpoint
from .run_folder import RunFolder, write_whole

RunData = Mapping[str, Any]
"""``"images"`` and, where there are some, ``"labels"``: fingerprints by name of the image; ``"channels"``: those that were
chosen, or None for all."""


def data_of(records: Sequence[ImageRecord], examples: Sequence[LabelledImage] | None = None) -> RunData:
    """Return what tells the images of a run, and their labels, from others."""
    chosen = records[0].chosen_channels
    data: dict[str, Any] = {
        "channels": None if chosen is None else list(chosen),
        "images": {record.name: _identity(record) for record in records},
    }
    if examples is not None:
        data["labels"] = {example.name: label_fingerprint(example.labels) for example in examples}
    return data


def _identity(record: ImageRecord) -> str:
    """Return the fingerprint, or what the metadata say of an image too large to be read for it."""
    return record.fingerprint or f"{record.height} × {record.width} × {record.channels}, {record.dtype}"


def take_up(
    folder: RunFolder, job: Job, config: Settings, facts: Mapping[str, Any], data: RunData, start: Checkpoint | None
) -> Iterator[Event]:
    """Make the folder of a new run, or ready that of a run to resume, which must have begun with the same data.

    Raises
    ------
    OtherDataError, StorageError
        As :func:`check_data` and :meth:`~napari_affmae.engine.run_folder.RunFolder.begin`.
    """
    if start is None:
        folder.begin(job, config, facts)
        write_whole(folder.data, json.dumps(data, indent=1).encode())
        return
    if not check_data(folder, data):
        given = count(len(data["images"]), "image")
        yield Notice(job, f"this run did not keep which images it began with; it goes on with {given}, and keeps those")
        write_whole(folder.data, json.dumps(data, indent=1).encode())
    folder.write_settings(job, config, facts)
    folder.truncate_log(start.progressed.step)


def check_data(folder: RunFolder, data: RunData) -> bool:
    """Check that a run which is resumed has the images and labels that it began with.

    Returns
    -------
    bool
        False if the run does not say what it began with: an earlier version wrote it.

    Raises
    ------
    OtherDataError
        If images are missing, new, or have other pixels or labels; the message names the first.
    StorageError
        If the file is there and cannot be read.
    """
    path = folder.data
    if not path.is_file():
        return False
    try:
        before = json.loads(path.read_bytes())
        difference = _difference(before, data)
        images = count(len(before["images"]), "image")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StorageError(f"{path} cannot be read ({error}); start a new run in another folder") from error
    if difference:
        raise OtherDataError(
            f"the run in {folder.path} began with {images}, but {difference}: give what it began with (on the command "
            "line with --files, if that is a part of the folder), or start a new run in another folder"
        )
    return True


def _difference(before: RunData, now: RunData) -> str:
    """Say how what is given differs from what a run began with; empty if it does not."""
    images, given = before["images"], now["images"]
    if before["channels"] != now["channels"]:
        return f"took {_channels(before)} of them, and now {_channels(now)}"
    parts = []
    if missing := [name for name in images if name not in given]:
        parts.append(f"{len(missing)} of them {'is' if len(missing) == 1 else 'are'} not here ({some_names(missing)})")
    if added := [name for name in given if name not in images]:
        parts.append(f"{len(added)} more {'is' if len(added) == 1 else 'are'} given now ({some_names(added)})")
    if changed := [name for name in given if name in images and images[name] != given[name]]:
        parts.append(f"{some_names(changed)} {'has' if len(changed) == 1 else 'have'} other pixels now")
    labels, painted = before.get("labels", {}), now.get("labels", {})
    if not parts and (relabelled := [name for name in painted if painted[name] != labels.get(name)]):
        parts.append(f"the labels of {some_names(relabelled)} are others now")
    return " and ".join(parts)


def _channels(data: RunData) -> str:
    return "all channels" if data["channels"] is None else f"channels {', '.join(map(str, data['channels']))}"
