"""The project folder: what is painted, predicted and accepted in a collection of images, in one JSON beside the labels.

``project.json``         the classes, the state of each image, suggested places, and where the user was
``labels``               one OME-Zarr per image, see :mod:`.label_array`, and beside it how sure its segmentation is, see
                         :mod:`.certainty`; restoring a snapshot makes ``labels-2``, …
``snapshots``            see :mod:`.snapshots`
``pretrain-1``, …, ``finetune-1``, …  run folders of the engine
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from ..card import ClassInfo
from ..errors import ConfigError, StorageError, cannot_save
from ..model_places import PROJECT_FILE
from ..settings import Settings
from ..whole_file import replace_file
from .suggestions import KeptSuggestions

_LONGEST = 200
"""Bytes of an image's name in that of its folder: file systems take 255, with suffixes and what is added while it is made."""

ImageState = Literal["unlabelled", "painted", "predicted", "accepted"]


class ImageEntry(Settings):
    """What is known of one two-dimensional image, or of one plane of a stack.

    Attributes
    ----------
    labels
        The OME-Zarr of its labels, relative to the project folder.
    index
        Which plane of the labels; empty if they are two-dimensional.
    state
        How far it is; ``"accepted"`` is the user's word, the others follow from ``pixels`` and ``predicted``.
    pixels
        Painted pixels per class id.
    predicted
        Whether a segmentation is kept.
    """

    labels: str
    index: tuple[Annotated[int, Field(ge=0)], ...] = ()
    state: ImageState = "unlabelled"
    pixels: dict[int, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    predicted: bool = False

    def updated(
        self, *, pixels: Mapping[int, int] | None = None, predicted: bool | None = None, accepted: bool | None = None
    ) -> ImageEntry:
        """Return the entry with what is new, in the state that follows."""
        pixels = self.pixels if pixels is None else dict(pixels)
        predicted = self.predicted if predicted is None else predicted
        accepted = self.state == "accepted" if accepted is None else accepted
        state = "accepted" if accepted else "predicted" if predicted else "painted" if pixels else "unlabelled"
        return self.replace(pixels=pixels, predicted=predicted, state=state)


class ProjectSettings(Settings):
    """Where the user was.

    Attributes
    ----------
    image
        The image that was open last, by name.
    brush
        In pixels; None for whatever it is.
    channels
        Those in use; empty for all.
    pretrained, segmenter
        Model files in use, as seen from the project folder; empty for none, None if that was never kept.
    """

    image: str = ""
    brush: Annotated[int, Field(ge=1, le=200)] | None = None
    channels: tuple[Annotated[int, Field(ge=0)], ...] = ()
    pretrained: str | None = None
    segmenter: str | None = None


class ProjectFile(Settings):
    """What ``project.json`` holds.

    Attributes
    ----------
    source
        Where the images come from, for people.
    classes
        The class table, in order. Ids in labels that are missing here belong to no class.
    images
        By the name of the image, planes as ``stack[3]``; images without an entry are unlabelled.
    labels
        Folder of the labels, relative to the project folder.
    settings
        Where the user was.
    suggested
        Places to paint that were suggested last; None if there are none.
    layers
        By the name of an image that was open as a layer when it was painted: which image it was.
    """

    format: Literal[1] = 1
    source: str = ""
    classes: tuple[ClassInfo, ...] = ()
    images: dict[str, ImageEntry] = Field(default_factory=dict)
    labels: str = "labels"
    settings: ProjectSettings = ProjectSettings()
    suggested: KeptSuggestions | None = None
    layers: dict[str, str] = Field(default_factory=dict)

    def state(self, image: str) -> ImageState:
        """Return how far an image is."""
        entry = self.images.get(image)
        return "unlabelled" if entry is None else entry.state

    def labels_of(self, stack: str) -> str:
        """Return the OME-Zarr of an image or stack, relative to the project folder; each name has its own."""
        return f"{self.labels}/{_folder_name(stack)}.ome.zarr"

    def certainty_of(self, image: str) -> str:
        """Return where it lies how sure the segmentation of an image or a plane is, see :mod:`.certainty`."""
        return f"{self.labels}/{_folder_name(image)}.certainty.npz"

    def painted(self, images: Iterable[str]) -> dict[int, int]:
        """Return the painted pixels per class id in some of the images."""
        total: dict[int, int] = {}
        for image in images:
            if image in self.images:
                for class_id, count in self.images[image].pixels.items():
                    total[class_id] = total.get(class_id, 0) + count
        return total

    def beside(self, there: ProjectFile, before: ProjectFile) -> ProjectFile:
        """Return the project with what somebody else has written meanwhile, wherever this one did not change anything.

        Parameters
        ----------
        there
            What is on disk.
        before
            What this one was when it was last read or written.
        """

        def both(name: str) -> Any:
            ours, theirs, old = (getattr(one, name) for one in (self, there, before))
            if name in ("images", "layers"):
                kept = {key: value for key, value in theirs.items() if key in ours or key not in old}
                return kept | {key: value for key, value in ours.items() if old.get(key) != value}
            return theirs if ours == old else ours

        return self.replace(**{name: both(name) for name in type(self).model_fields})


def is_project(folder: Path) -> bool:
    """Whether a folder is a project with labels."""
    return (folder / PROJECT_FILE).is_file()


def read_project(folder: Path) -> ProjectFile:
    """Read the JSON of a project; a folder without one is a project that begins.

    Raises
    ------
    StorageError
        If it cannot be read.
    """
    path = folder / PROJECT_FILE
    try:
        return ProjectFile.from_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return ProjectFile()
    except (OSError, ConfigError) as error:
        raise StorageError(
            f"{path} cannot be read ({_short(error)}); restore a snapshot, or choose another project folder in step 2"
        ) from error


def write_project(folder: Path, project: ProjectFile) -> None:
    """Write the JSON of a project, whole or not at all.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    record: dict[str, Any] = project.model_dump(mode="json")
    write_json(folder / PROJECT_FILE, record)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; raise :class:`StorageError` if it cannot be written."""
    try:
        replace_file(path, json.dumps(record, indent=1).encode())
    except OSError as error:
        raise cannot_save("the project", path.parent, error) from error


def _folder_name(image: str) -> str:
    """Return a name that every file system takes: what does not fit is stood for by a digest of the whole."""
    quoted = quote(image, safe=" +,=@()[]")
    if len(quoted) <= _LONGEST:
        return quoted
    # Longer than any name that is not cut, so that none of those can be the same.
    return f"{quoted[:_LONGEST]}-{blake2b(image.encode(), digest_size=16).hexdigest()}"


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
