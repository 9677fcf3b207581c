"""The paint of a project folder, paired with the images it was painted on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo
from ..errors import AffmaeError, LabelError
from ..words import some_names
from .label_array import LabelArray
from .label_images import LabelledImage
from .project_folder import ImageEntry, ProjectFile, read_project
from .records import ImageRecord, Skipped
from .scan import scan


@dataclass(frozen=True)
class StoredPaint:
    """Paint of one image that is still on disk."""

    folder: Path
    entry: ImageEntry
    ids: tuple[int, ...]

    def read(self) -> npt.NDArray[np.uint8]:
        """Return the paint ``[H, W]``; ids of no class are not labelled.

        Raises
        ------
        StorageError
            If it cannot be read.
        LabelError
            If it is gone.
        """
        labels = LabelArray(self.folder / self.entry.labels, "paint").read_plane(self.entry.index)
        if labels is None:
            raise LabelError(f"the paint in {self.folder / self.entry.labels} is gone; open the image in the dock again")
        known = np.isin(labels, self.ids)
        return np.where(known, labels, 0).astype(np.uint8)


def stored_paint(folder: Path, project: ProjectFile, records: Iterable[ImageRecord]) -> list[tuple[ImageRecord, StoredPaint]]:
    """Return the painted ones among images, each with its paint."""
    ids = tuple(info.id for info in project.classes)
    return [
        (record, StoredPaint(folder, project.images[record.name], ids))
        for record in records
        if record.name in project.images and project.images[record.name].pixels
    ]


def pair_project(
    images: Path | str, folder: Path | str, files: str | None = None, channels: Sequence[int] | None = None
) -> tuple[list[LabelledImage], list[Skipped], tuple[ClassInfo, ...]]:
    """Find the painted images of a project, as :func:`~.label_images.pair_labels` finds label files.

    Painted images that a whole folder of images does not hold are among what is skipped.

    Parameters
    ----------
    images
        The folder, or the file, that was opened in the dock.
    folder
        The project folder.
    files, channels
        As in :func:`~napari_affmae.data.scan.scan`.

    Returns
    -------
    examples, skipped, classes
        Paint is sparse: 0 is not labelled. ``classes`` are the project's that have paint here, in its order.

    Raises
    ------
    DataError, StorageError
        If no image is usable, or the project cannot be read.
    LabelError
        If nothing is painted on any of these images, or none of the paint can be read or fits.
    """
    folder = Path(folder)
    project = read_project(folder)
    collection = scan(images, files, channels)
    unreadable = []
    examples = []
    for record, paint in stored_paint(folder, project, collection.records):
        try:
            examples.append(LabelledImage(record, paint.read()))
        except AffmaeError as error:
            unreadable.append(Skipped(record.name, str(error).removeprefix(f"{record.name}: ")))
    painted = sorted(name for name, entry in project.images.items() if entry.pixels)
    if unreadable and not examples:
        first = unreadable[0]
        raise LabelError(f"no paint in {folder} can be used with the images in {images}: {first.name}: {first.reason}")
    if not examples:
        raise LabelError(
            f"no image in {images} is painted in {folder} (painted there: {some_names(painted) or 'none'}); "
            "give the folder of images that was open in the dock"
        )
    skipped = [*collection.skipped, *unreadable]
    if Path(images).is_dir() and files is None:
        # Whoever gives one image, or a list, leaves the others out on purpose.
        there = {record.name for record in collection.records} | {item.name for item in skipped}
        why = f"it is painted in the project, but not in {images}"
        skipped += [Skipped(name, why) for name in painted if name not in there]
    present = {class_id for example in examples for class_id in np.unique(example.labels).tolist()}
    return examples, skipped, tuple(info for info in project.classes if info.id in present)
