"""What the saving thread does: labels and ``project.json`` to disk and back. One at a time, and no Qt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..data.plane_names import plane_name
from ..data.project_folder import ImageEntry, ProjectFile, is_project, read_project, write_project
from ..errors import StorageError
from ..model_places import PROJECT_FILE

if TYPE_CHECKING:
    from ..data.label_array import Index, LabelArray, LabelKind, Region

Places: TypeAlias = dict[str, npt.NDArray[np.int64]]
"""Where an id was before it was changed: OME-Zarr, relative to the project → flat places in its paint."""


@dataclass(frozen=True)
class Change:
    """Labels of one kind of an image, or a stack, and where to look for what changed (None: everywhere)."""

    stack: str
    kind: LabelKind
    labels: npt.NDArray[Any]
    regions: Sequence[Region] | None


@dataclass(frozen=True)
class SavedLabels:
    """What is kept of an image or a stack; None where there is nothing."""

    paint: npt.NDArray[np.uint8] | None
    segmentation: npt.NDArray[np.uint8] | None


class ProjectWriter:
    """Reads and writes one project.

    Parameters
    ----------
    folder
        The project folder; made when something is written first.
    file
        What it holds.
    """

    def __init__(self, folder: Path, file: ProjectFile) -> None:
        self.folder = folder
        self._before = self._there = file
        self._stamp: tuple[int, int, int] | None = None  # it may have been replaced since it was read
        self._arrays: dict[tuple[str, LabelKind], LabelArray] = {}

    def save(self, file: ProjectFile, changes: Sequence[Change]) -> dict[str, ImageEntry]:
        """Write what changed, labels before ``project.json``, and return the entries of the images that are affected.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        entries: dict[str, ImageEntry] = {}
        for change in changes:
            where = file.labels_of(change.stack)
            array = self._array(where, change.kind)
            array.write(change.labels, change.regions, file.classes)
            entries |= entries_of(file, {**file.images, **entries}, change.stack, change.kind, array.plane_counts())
        file = file.model_copy(update={"images": {**file.images, **entries}})
        if file.images or any((file.settings.pretrained, file.settings.segmenter)) or is_project(self.folder):
            there = self._beside_others(file)
            write_project(self.folder, there)
            self._there, self._before, self._stamp = there, file, self._stamp_now()
        return entries

    def _beside_others(self, file: ProjectFile) -> ProjectFile:
        """Return the file with what another window on the same project has written since this one did."""
        try:
            if is_project(self.folder) and self._stamp_now() != self._stamp:
                self._there = read_project(self.folder)
        except StorageError:  # damaged meanwhile: what is known here is all there is
            return file
        return file.beside(self._there, self._before)

    def _stamp_now(self) -> tuple[int, int, int] | None:
        """Return what tells whether ``project.json`` was replaced: of many images it is not read for nothing at each stroke."""
        with suppress(OSError):
            status = (self.folder / PROJECT_FILE).stat()
            return status.st_ino, status.st_mtime_ns, status.st_size
        return None

    def read(self, file: ProjectFile, stack: str) -> SavedLabels:
        """Return what is kept of an image or a stack; raise :class:`StorageError` if it cannot be read."""
        where = file.labels_of(stack)
        is_kept = any(entry.labels == where and (entry.pixels or entry.predicted) for entry in file.images.values())
        # Somebody may have moved the labels of one image away; without the folder of all, the project itself is not there.
        if is_kept and not (self.folder / file.labels).is_dir():
            raise StorageError(
                f"the labels of {stack} cannot be read ({self.folder / file.labels} is not there); "
                "bring that folder back, or choose another project folder in step 2"
            )
        return SavedLabels(self._array(where, "paint").read(), self._array(where, "segmentation").read())

    def relabel(self, wheres: Iterable[str], source: int, target: int) -> Places:
        """Turn one class id into another in labels that are not open, and return where it was."""
        return {where: self._array(where, "paint").relabel(source, target) for where in wheres}

    def restore(self, places: Places, source: int, target: int) -> None:
        """Undo :meth:`relabel`."""
        for where, flat in places.items():
            self._array(where, "paint").restore(flat, source, target)

    def counted(self, file: ProjectFile, wheres: Iterable[str]) -> dict[str, ImageEntry]:
        """Return the entries of images whose paint was relabelled or restored, with the pixels that there are now."""
        counts = {where: self._array(where, "paint").plane_counts() for where in wheres}
        return {
            name: entry.updated(pixels=counts[entry.labels].get(entry.index, {}))
            for name, entry in file.images.items()
            if entry.labels in counts
        }

    def _array(self, where: str, kind: LabelKind) -> LabelArray:
        from ..data.label_array import LabelArray

        if (where, kind) not in self._arrays:
            self._arrays[where, kind] = LabelArray(self.folder / where, kind)
        return self._arrays[where, kind]


def entries_of(
    file: ProjectFile,
    images: Mapping[str, ImageEntry],
    stack: str,
    kind: LabelKind,
    counts: Mapping[Index, Mapping[int, int]],
) -> dict[str, ImageEntry]:
    """Return the entries of the planes of a stack (a single image has one, without an index) after a change of its labels."""
    found = {}
    for index, pixels in counts.items():
        name = plane_name(stack, index)
        before = images.get(name)
        if before is None and not pixels:
            continue
        entry = before or ImageEntry(labels=file.labels_of(stack), index=index)
        found[name] = entry.updated(pixels=pixels) if kind == "paint" else entry.updated(predicted=bool(pixels))
    return found
