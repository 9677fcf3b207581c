"""Find the images of a folder or of open layers, try each once, and say what was skipped and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import PixelSize
from ..errors import DataError
from .file_lists import read_file_list, select_listed
from .fingerprint import fingerprint
from .image_file import KINDS, is_image_name, open_image_file
from .lazy_plane import LazyPlane
from .output_log import LOG, PLACES_LOG, made_in
from .plane_names import plane_name
from .records import NO_CHANNEL, ImageCollection, ImageRecord, Skipped, lazy_plane, of_one_channel_count, prepare
from .there import require_images
from .zarr_file import is_zarr

_WORKERS = min(4, os.cpu_count() or 1)
_REASONS_SHOWN = 3

_MOST_PIXELS_READ = 1 << 26
"""Images that are read part by part are read whole to look for NaN and constant ones only up to this size."""

Found = tuple[list[ImageRecord], list[Skipped]]


def scan(
    path: Path | str,
    files: str | None = None,
    channels: Sequence[int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImageCollection:
    """Find images in a folder and its subfolders, or take a single one; decode each once to know that it is usable.

    Of zarr images larger than 64 million pixels only the metadata are read.

    Parameters
    ----------
    path
        A folder, one PNG, JPEG or TIFF file, or one zarr or OME-Zarr folder. Planes of a stack count as images.
    files
        Optional list of names, see :func:`~napari_affmae.data.file_lists.read_file_list`.
    channels
        Channels to keep, counted from 0; None keeps all.
    on_progress
        Called in this thread as ``on_progress(done, total)`` after each file. What it raises ends the scan.

    Returns
    -------
    ImageCollection
        Images in order of name. Left out, with a reason each: damaged, empty, truncated or constant images, NaN or infinite
        values, and images whose channel count is not that of the majority.

    Raises
    ------
    DataError
        If the path is not there, or no image is left; the message gives the first reasons.
    """
    path = Path(path)
    chosen = _chosen(channels)
    require_images(path)
    skipped: list[Skipped] = []
    if is_zarr(path):
        root, names, ignored = path.parent, [path.name], 0
    elif path.is_dir():
        root = path
        names, ignored, skipped = find_images(root)
    else:
        if not is_image_name(path.name):
            raise DataError(f"{path.name} is no image that is read; expected {KINDS}")
        root, names, ignored = path.parent, [path.name], 0
    if files is not None:
        names, missing = select_listed(read_file_list(files, root), names)
        skipped += missing
    if not names and not skipped:
        kind = f"its {ignored} files are of another kind" if ignored > 1 else "its 1 file is of another kind"
        raise DataError(f"no images in {path}, {kind if ignored else 'it is empty'}: choose a folder of {KINDS} images")
    records: list[ImageRecord] = []
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="scan") as pool:
        try:
            for done, (found, bad) in enumerate(pool.map(lambda name: _try_file(root, name, chosen), names), start=1):
                records += found
                skipped += bad
                if on_progress is not None:
                    on_progress(done, len(names))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _collect(records, skipped, ignored, str(path))


def collection_from_arrays(
    arrays: Mapping[str, Any],
    pixel_size: PixelSize | None = None,
    rgb: bool = False,
    channels: Sequence[int] | None = None,
) -> ImageCollection:
    """Make a collection of images in memory, for example of open napari layers.

    Parameters
    ----------
    arrays
        By name: ``[..., H, W]``, or ``[..., H, W, 3 or 4]`` if ``rgb`` (alpha is dropped). Planes along leading axes count as
        images and are read when they are needed; numpy, dask and zarr arrays do.
    pixel_size
        Size of a pixel of every array, if known.
    rgb
        Whether the last axis holds colours.
    channels
        As in :func:`scan`.

    Raises
    ------
    DataError
        If no usable image is left.
    """
    chosen = _chosen(channels)
    records: list[ImageRecord] = []
    skipped: list[Skipped] = []
    for name, array in arrays.items():
        shape = tuple(int(side) for side in array.shape)
        inner = 3 if rgb else 2
        if len(shape) < inner:
            skipped.append(Skipped(name, f"expected at least {inner} axes, but its shape is {shape}"))
            continue
        outer = shape[:-inner]
        for index in np.ndindex(outer):
            colors = tuple(range(min(shape[-1], 3))) if rgb else None
            plane = LazyPlane(array, (*map(int, index), "y", "x", *("c" * rgb)), colors)
            record = ImageRecord(plane_name(name, index), 0, 0, 0, "", pixel_size, chosen_channels=chosen, array=plane)
            try:
                records.append(_too_large_to_read(record) or _checked(record, np.asarray(plane)))
            except DataError as error:
                skipped.append(Skipped(record.name, str(error)))
    return _collect(records, skipped, 0, "the open layers")


def _chosen(channels: Sequence[int] | None) -> tuple[int, ...] | None:
    if channels is not None and not channels:
        raise DataError("no channel is chosen; choose at least one, counted from 0")
    return None if channels is None else tuple(channels)


def find_images(root: Path) -> tuple[list[str], int, list[Skipped]]:
    """Return the image files below a folder (relative, forward slashes, sorted), the number of other files, and what is barred.

    Hidden files and folders (a leading dot) are not looked at; links are followed, but no folder is entered twice. What was
    made of images and written into these folders is barred, an OME-Zarr only if that image is there, too.
    """
    names: list[str] = []
    made: dict[str, str] = {}
    ignored = 0
    barred: list[OSError] = []
    entered = {os.path.realpath(root)}
    for where, folders, files in os.walk(root, onerror=barred.append, followlinks=True):
        kept = []
        below = Path(where).relative_to(root)
        if LOG in files or PLACES_LOG in files:
            made |= {(below / output).as_posix(): source for output, source in made_in(Path(where)).items()}
        for folder in sorted(folders):
            real = os.path.realpath(os.path.join(where, folder))
            if not folder.startswith(".") and real not in entered:
                entered.add(real)
                if is_zarr(Path(where, folder)):
                    names.append((below / folder).as_posix())
                else:
                    kept.append(folder)
        folders[:] = kept
        for file in files:
            if is_image_name(file) and not file.startswith("."):
                names.append((below / file).as_posix())
            else:
                ignored += 1
    skipped = [Skipped(str(error.filename), f"cannot look into this folder: {error.strerror}") for error in barred]
    there = {os.path.realpath(root / name) for name in names} if made else set()
    # An OME-Zarr that was written holds its image, too, and stands for it where that is not.
    results = {name for name in names if name in made and (not name.endswith(".zarr") or made[name] in there)}
    skipped += [Skipped(name, "was made of an image and written here, is none") for name in sorted(results)]
    return sorted(set(names) - results), ignored, skipped


def _try_file(root: Path, name: str, chosen: tuple[int, ...] | None) -> Found:
    records: list[ImageRecord] = []
    skipped: list[Skipped] = []
    path = root / name
    try:
        with open_image_file(path) as file:
            for page in range(file.pages):
                many = file.pages > 1
                plane = plane_name(name, (page,) if many else ())
                record = ImageRecord(plane, 0, 0, 0, "", file.pixel_size, path, page if many else None, chosen)
                try:
                    records.append(_too_large_to_read(record) or _checked(record, file.read(page)))
                except DataError as error:
                    skipped.append(Skipped(record.name, str(error)))
            if not file.pages:
                skipped.append(Skipped(name, "the file holds no image"))
    except DataError as error:
        skipped.append(Skipped(name, str(error)))
    return records, skipped


def _checked(record: ImageRecord, pixels: npt.NDArray[Any]) -> ImageRecord:
    """Fill in what the pixels say, or raise :class:`DataError` if they are of no use."""
    pixels = prepare(pixels, record.chosen_channels)
    height, width, channels = pixels.shape
    low = pixels.min()
    if low == pixels.max():
        raise DataError(f"constant: every value is {low.item()}")
    return replace(
        record, height=height, width=width, channels=channels, dtype=pixels.dtype.name, fingerprint=fingerprint(pixels)
    )


def _too_large_to_read(record: ImageRecord) -> ImageRecord | None:
    """Fill in what the metadata of a large lazy image say; None if it can be read to know more."""
    plane = lazy_plane(record)
    if plane is None or plane.shape[0] * plane.shape[1] <= _MOST_PIXELS_READ:
        return None
    height, width, channels = plane.shape
    return replace(record, height=height, width=width, channels=channels, dtype=plane.dtype.name)


def _collect(records: list[ImageRecord], skipped: list[Skipped], ignored: int, source: str) -> ImageCollection:
    if records:
        majority, others = of_one_channel_count(records)
        skipped += others
        records = [record for record in records if record.channels == majority]
    if not records:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in skipped[:_REASONS_SHOWN])
        more = f"; and {len(skipped) - _REASONS_SHOWN} more" if len(skipped) > _REASONS_SHOWN else ""
        remedy = "repair the files or choose others"
        if all(item.reason.startswith(NO_CHANNEL) for item in skipped):
            remedy = "choose among those that the images have, or leave --channels away to take all"
        raise DataError(f"no usable image in {source} ({reasons}{more}); {remedy}")
    return ImageCollection(tuple(records), tuple(skipped), ignored)
