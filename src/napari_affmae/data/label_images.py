"""Label images: reading them, pairing them with images, and the two conventions of their ids.

*Dense* labels name a class for every pixel, usually 0..K-1. *Sparse* labels are paint: 0 is not labelled, 1..K are classes
(one of which may be called background). With ``foreground``, instance ids become two classes:

- dense: 0 stays 0 (background), every instance becomes 1 (foreground);
- sparse: 0 stays not labelled and 1 stays 1 (painted background), every higher id becomes 2 (foreground).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, LabelError
from .image_file import SUFFIXES, broken_file_as_data_error, open_image_file
from .parts import blocks
from .plane_names import split_name
from .records import ImageRecord, Skipped
from .scan import scan
from .stem import without_suffix
from .there import require_labels

LABEL_SUFFIXES = SUFFIXES - {".jpg", ".jpeg"} | {".npy"}
"""Suffixes of label files. JPEG is missing on purpose: its compression makes up ids."""

_REASONS_SHOWN = 3
_NO_FILE, _NO_PAINT = "no label file", "its labels hold no paint"
UNPAINTED = (_NO_FILE, _NO_PAINT)
"""How the reasons begin for which an image is skipped that nobody has painted yet."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image and its labels.

    Attributes
    ----------
    record
        The image.
    labels
        Integer ids ``[H, W]`` of the image's size, none negative.

    Raises
    ------
    LabelError
        If the shapes differ or the labels are no ids.
    """

    record: ImageRecord
    labels: npt.NDArray[Any]

    def __post_init__(self) -> None:
        expected = (self.record.height, self.record.width)
        if self.labels.shape != expected:
            raise LabelError(
                f"{self.record.name}: the image has {expected[0]} × {expected[1]} pixels, but its labels have "
                f"{' × '.join(map(str, self.labels.shape))}; labels must have the shape of their image"
            )
        object.__setattr__(self, "labels", as_ids(self.labels, self.record.name))

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.record.name


def as_ids(labels: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return labels as integers; raise :class:`LabelError` if some are negative or not whole."""
    kind = labels.dtype.kind
    if kind == "b":
        return labels.astype(np.uint8)
    if kind == "f":
        whole = labels.astype(np.int64) if np.isfinite(labels).all() else None
        if whole is None or not np.array_equal(whole, labels):
            raise LabelError(f"{name}: labels must be whole numbers, but some are not; is this an image instead of labels?")
        labels = whole
    elif kind not in "ui":
        raise LabelError(f"{name}: labels must be whole numbers, got type {labels.dtype}")
    if labels.size and labels.min() < 0:
        raise LabelError(f"{name}: labels must not be negative, but the least is {labels.min()}; use 0 for not labelled")
    return labels


def pair_labels(
    images: Path | str,
    labels: Path | str,
    files: str | None = None,
    foreground: bool = False,
    sparse: bool = False,
    channels: Sequence[int] | None = None,
) -> tuple[list[LabelledImage], list[Skipped]]:
    """Find images and their label files, matched by relative path without the suffix.

    Parameters
    ----------
    images, labels
        Two folders with subfolders alike, or two single files. A label stack belongs to an image stack page by page, and
        has no more pages.
    files, channels
        As in :func:`~napari_affmae.data.scan.scan`.
    foreground
        Turn instance ids into two classes, see the module.
    sparse
        Whether 0 means not labelled.

    Returns
    -------
    examples, skipped
        The pairs in order of name, and what was left out: unusable images, images without labels, labels that cannot be read
        or have another shape, and (sparse) labels without paint.

    Raises
    ------
    DataError
        If no image is usable.
    LabelError
        If no pair is left; the message gives the first reasons.
    """
    images, labels = Path(images), Path(labels)
    require_labels(labels)
    if labels.resolve() == images.resolve():
        raise LabelError(f"{labels} are the images themselves: give the folder of their labels, with files of the same names")
    collection = scan(images, files, channels)
    skipped = list(collection.skipped)
    files_by_stem = _label_files(labels)
    single = not images.is_dir() and not labels.is_dir()
    root = images if images.is_dir() else images.parent
    planes = [*(record.name for record in collection.records), *(item.name for item in collection.skipped)]
    pages = Counter(split_name(plane)[0] for plane in planes)
    examples: list[LabelledImage] = []
    stacks: dict[Path, list[npt.NDArray[Any]]] = {}
    matched = False
    for record in collection.records:
        if record.path is None:  # scan finds files only
            continue
        stem = without_suffix(record.path.relative_to(root).as_posix())
        fits = [labels] if single else files_by_stem.get(stem, [])
        try:
            if len(fits) != 1:
                raise LabelError(
                    f"{_NO_FILE} {stem}.* among the labels"
                    if not fits
                    else f"{len(fits)} label files fit: {', '.join(path.name for path in fits)}"
                )
            matched = True
            if fits[0] not in stacks:
                stacks = {fits[0]: read_label_file(fits[0])}
            numbers = _page_of(stacks[fits[0]], record, pages[split_name(record.name)[0]])
            ids = to_foreground(numbers, sparse) if foreground else numbers
            if sparse and not ids.any():
                raise LabelError(_NO_PAINT)
            # Who mistakes the folder does so for all images: the first that would be taken is read for it, and no other.
            if not examples and _is_copy(numbers, record):
                raise LabelError("its labels are a copy of the image; give the folder of the labels")
            examples.append(LabelledImage(record, ids))
        except (DataError, LabelError) as error:
            skipped.append(Skipped(record.name, str(error).removeprefix(f"{record.name}: ")))
    if not examples:
        # What is wrong with a label file says more than that there is none.
        told = sorted(skipped, key=lambda item: item.reason.startswith(_NO_FILE))
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in told[:_REASONS_SHOWN])
        if len(skipped) > _REASONS_SHOWN:
            reasons += f"; and {len(skipped) - _REASONS_SHOWN} more"
        there = [path.name for paths in files_by_stem.values() for path in paths][:_REASONS_SHOWN]
        names = ", ".join(there) or "none"
        advice = "correct the labels" if matched else f"name each label file as its image; there are {names}"
        raise LabelError(f"no image in {images} has usable labels in {labels} ({reasons}): {advice}")
    return examples, skipped


def read_label_file(path: Path) -> list[npt.NDArray[Any]]:
    """Return the pages of a label file (PNG, TIFF or npy) as ``[H, W]`` arrays of ids.

    Raises
    ------
    DataError
        If the file cannot be read.
    LabelError
        If it holds colours, or values that are no ids.
    """
    if path.suffix.lower() == ".npy":
        with broken_file_as_data_error():
            whole = np.load(path, allow_pickle=False)
        if whole.ndim not in (2, 3):
            raise LabelError(f"{path.name}: expected labels of 2 axes, or 3 for a stack, got shape {whole.shape}")
        planes = [whole] if whole.ndim == 2 else list(whole)
    else:
        with open_image_file(path, ids=True) as file:
            planes = [_one_channel(file.read(page), path.name) for page in range(file.pages)]
    return [as_ids(plane, path.name) for plane in planes]


def _is_copy(ids: npt.NDArray[Any], record: ImageRecord) -> bool:
    """Whether labels are the image itself, which instance numbers cannot be told from otherwise."""
    if not ids.size or int(ids.min()) == int(ids.max()) or ids.shape != (record.height, record.width):
        return False
    return all(np.array_equal(some, part[..., 0]) for some, part in zip(blocks(ids), blocks(record.load()), strict=True))


def to_foreground(ids: npt.NDArray[Any], sparse: bool) -> npt.NDArray[np.uint8]:
    """Turn instance ids into two classes, see the module."""
    classes: npt.NDArray[np.uint8] = np.minimum(ids, 2 if sparse else 1).astype(np.uint8)
    return classes


def _one_channel(pixels: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    first: npt.NDArray[Any] = pixels[..., 0]
    if any(not np.array_equal(first, pixels[..., channel]) for channel in range(1, pixels.shape[2])):
        raise LabelError(
            f"{name}: labels must be one number per pixel, but the file holds {pixels.shape[2]} different channels; "
            "save label ids, not colours"
        )
    return first


def _label_files(labels: Path) -> dict[str, list[Path]]:
    """Label files of a folder by their relative path without suffix."""
    if not labels.is_dir():
        return {without_suffix(labels.name): [labels]}
    found: dict[str, list[Path]] = {}
    for path in sorted(labels.rglob("*")):
        relative = path.relative_to(labels)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() in LABEL_SUFFIXES and not hidden and path.is_file():
            found.setdefault(without_suffix(relative.as_posix()), []).append(path)
    return found


def _page_of(planes: Sequence[npt.NDArray[Any]], record: ImageRecord, pages: int) -> npt.NDArray[Any]:
    page = record.page or 0
    if page >= len(planes) or (record.page is None and len(planes) > 1):
        raise LabelError(f"its labels are a stack of {len(planes)}, which does not fit page {page} of the image")
    if len(planes) > pages:
        raise LabelError(f"its labels are a stack of {len(planes)}, but the image is one of {pages}")
    return planes[page]
