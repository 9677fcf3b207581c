"""A trained segmenter applied to many images: one output each, tables of areas, and a log to go on from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import ApplyConfig
from ..control import JobControl
from ..data.output_log import OutputLog, Request
from ..data.outputs import name_outputs
from ..data.records import ImageCollection, ImageRecord, Skipped
from ..data.tables import refuse_foreign_tables, write_tables
from ..data.write import remove_remains
from ..errors import AffmaeError, DataError, StorageError
from ..events import Done, Event, ImageBegun, ImageWritten, Notice
from ..model_header import locate_model
from .folder_job import FolderJob
from .refine import background_of
from .segment import check_channels, class_table_of, load_segmenter
from .tiling import RowFunction

_FOLDER = "segmented-"


@dataclass(frozen=True)
class ApplyResult:
    """What became of the images.

    Attributes
    ----------
    written, kept
        Label files that were made now, and those that were there from before.
    failed
        Images that could not be segmented, and why.
    tables
        CSV files of areas and instances.
    """

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    failed: tuple[Skipped, ...]
    tables: tuple[Path, ...]


def apply(
    model: Path | str,
    images: ImageCollection,
    out: Path | str,
    config: ApplyConfig | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    also: RowFunction | None = None,
    control: JobControl | None = None,
    threads: int | None = None,
) -> Iterator[Event]:
    """Segment images into files, tile by tile: memory does not grow with the height of an image, and little with its width.

    Parameters
    ----------
    model
        File or run folder of a segmenter.
    images
        What to segment.
    out
        Folder for one output per image, named like it; ``areas.csv`` with the area of each class in each image; with
        instances ``instances.csv``; and ``segment.jsonl`` with settings and results, from which a run can go on.
    config
        How; None takes the defaults.
    resume
        Leave out images whose outputs are there from an earlier run with the same model and settings, and make those anew
        that it had begun.
    overwrite
        Replace outputs that are there already, whoever made them.
    also
        Is handed the finished rows of probabilities as well, image by image; each begins with row 0.
    control, threads
        As in :func:`~napari_affmae.engine.pretrain.pretrain`. A stop keeps all images that are finished.

    Yields
    ------
    Event
        ``Started``; for each image ``ImageBegun``, ``Progress`` (``step`` counts tiles of all images) and ``ImageWritten``;
        ``Notice``, also for an image that cannot be read; ``Done`` with an :class:`ApplyResult`.

    Raises
    ------
    ModelFileError
        If the model is no segmenter, or cannot be read.
    StorageError
        If outputs are there already and neither to be gone on with nor to be overwritten, or the disk is full.
    ConfigError
        If what is there was made with other settings, or the settings do not fit the model.
    DataError
        If images have other channels than the model, or none could be segmented.
    DeviceError
        As :func:`~napari_affmae.engine.segment.segment_events`.
    """
    config = config or ApplyConfig()
    control = control or JobControl()
    out = Path(out)
    network = load_segmenter(model)
    check_channels(network, images.channels)
    background_of(class_table_of(network), config.refinement.background)
    log = OutputLog(out)
    if not (log.existed or overwrite):
        refuse_foreign_tables(out)
    requests = _requests(images.records, out, config)
    settings = _settings(model, config, images)
    left = log.to_do(requests, settings, resume=resume, overwrite=overwrite)
    records = dict(zip(requests, images.records, strict=True))
    job = FolderJob(network, config, control, threads, [records[request] for request, _ in left], also)
    written: list[Path] = []
    failed: list[Skipped] = []
    try:
        for place, (request, replaceable) in enumerate(left, start=1):
            yield ImageBegun("segment", request.name, place, len(left))
            if resume or overwrite:
                for path in request.outputs.paths():
                    remove_remains(path)
            log.begin(request, settings)
            try:
                line = yield from job.segment(records[request], request, replaceable)
            except DataError as error:
                failed.append(Skipped(request.name, str(error)))
                yield Notice("segment", f"skipped {_named(request.name, error)}")
                continue
            if line is None:
                break
            log.finish(request, line)
            written.append(request.outputs.labels)
            pixels = {info["id"]: info["pixels"] for info in line["areas"]}
            objects = len(line["instances"]) if "instances" in line else None
            yield ImageWritten("segment", request.name, tuple(request.outputs.paths()), pixels, objects)
    except BaseException:
        # On a full disk the tables fail as well, and the first reason is the one to tell.
        with suppress(StorageError):
            _close(log)
        raise
    tables = _close(log)
    if left and not written and len(failed) == len(left):
        raise DataError(f"none of the images could be segmented, the first because {_named(failed[0].name, failed[0].reason)}")
    todo = {request for request, _ in left}
    kept = tuple(request.outputs.labels for request in requests if request not in todo)
    yield Done(
        "segment", job.tiles_done, out, stopped=len(written) + len(failed) < len(left),
        result=ApplyResult(tuple(written), kept, tuple(failed), tuple(tables)),
        summary={"images": len(written), "kept": len(kept), "failed": len(failed), "seconds": round(job.elapsed, 3)},
    )  # fmt: skip


def _close(log: OutputLog) -> list[Path]:
    """Write the tables of what is finished; leave nothing behind if nothing is."""
    log.forget_if_empty()
    return write_tables(log.folder, log.finished()) if log.finished() else []


def output_folder(project: Path, model: Path | str, images: ImageCollection, config: ApplyConfig) -> Path:
    """Return where to write if nobody says: ``segmented-1``, ``segmented-2`` and so on in a project.

    The last of them, if it was made by the same model with the same settings and so can be gone on with; else a new one.
    """
    numbers = [
        int(path.name.removeprefix(_FOLDER)) for path in project.glob(f"{_FOLDER}*") if path.name[len(_FOLDER) :].isdigit()
    ]
    last = max(numbers, default=0)
    folder = project / f"{_FOLDER}{last}"
    if last:
        if not any(folder.iterdir()):
            return folder
        with suppress(AffmaeError):
            log = OutputLog(folder)
            log.to_do(_requests(images.records, folder, config), _settings(model, config, images), resume=True, overwrite=False)
            if log.made_with(_settings(model, config, images)):
                return folder
    return project / f"{_FOLDER}{last + 1}"


def _requests(records: Sequence[ImageRecord], out: Path, config: ApplyConfig) -> list[Request]:
    names = [record.name for record in records]
    outputs = name_outputs(out, names, config.format, probabilities=config.probabilities, instances=config.refinement.instances)
    sources = ["an open layer" if record.path is None else str(record.path.resolve()) for record in records]
    return [Request(*parts) for parts in zip(names, sources, outputs, strict=True)]


def _settings(model: Path | str, config: ApplyConfig, images: ImageCollection) -> dict[str, Any]:
    """Return what decides the result; where it is computed, and how many tiles at once, does not."""
    with locate_model(model).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    channels = images.records[0].chosen_channels
    return {
        "model_sha256": digest,
        "channels": None if channels is None else list(channels),
        "settings": config.model_dump(mode="json", exclude={"device", "batch"}),
    }


def _named(name: str, reason: object) -> str:
    """Say which image a reason is about, unless it says so itself."""
    return str(reason) if str(reason).startswith(name) else f"{name}: {reason}"
