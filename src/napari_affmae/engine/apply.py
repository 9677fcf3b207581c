"""A trained segmenter applied to many images: one output each, tables of areas, and a log to go on from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import ApplyConfig
from ..control import JobControl
from ..data.classes import class_table_of
from ..data.output_log import OutputLog
from ..data.outputs import Outputs, name_outputs
from ..data.records import ImageCollection, Skipped
from ..data.tables import refuse_foreign_tables, write_tables
from ..errors import AffmaeError, StorageError
from ..events import Done, Event
from .folder_job import FolderJob
from .folder_run import FolderRun, requests_for, settings_of
from .refine import background_of
from .segment import check_channels, load_segmenter
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
    run = FolderRun(
        "segment", log, images, _outputs(images, out, config), _settings(model, images, config),
        resume=resume, overwrite=overwrite,
    )  # fmt: skip
    job = FolderJob(network, config, control, threads, run.left, also)
    try:
        yield from run.each(job.segment)
    except BaseException:
        # On a full disk the tables fail as well, and the first reason is the one to tell.
        with suppress(StorageError):
            _close(log)
        raise
    tables = _close(log)
    run.require_any("segmented")
    written, kept = (tuple(request.outputs.labels for request in requests) for requests in (run.written, run.kept))
    yield Done(
        "segment", job.tiles_done, out, stopped=run.stopped,
        result=ApplyResult(written, kept, tuple(run.failed), tuple(tables)),
        summary={
            "images": len(written), "kept": len(kept), "failed": len(run.failed), "seconds": round(job.elapsed, 3),
        },
    )  # fmt: skip


def _close(log: OutputLog) -> list[Path]:
    """Write the tables of what is finished; leave nothing behind if nothing is."""
    log.forget_if_empty()
    return write_tables(log) if log.finished() else []


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
            settings = _settings(model, images, config)
            log.to_do(requests_for(images, _outputs(images, folder, config)), settings, resume=True, overwrite=False)
            if log.made_with(settings):
                return folder
    return project / f"{_FOLDER}{last + 1}"


def _outputs(images: ImageCollection, out: Path, config: ApplyConfig) -> list[Outputs]:
    names = [record.name for record in images.records]
    return name_outputs(out, names, config.format, probabilities=config.probabilities, instances=config.refinement.instances)


def _settings(model: Path | str, images: ImageCollection, config: ApplyConfig) -> dict[str, Any]:
    """Return what decides the result; where it is computed, and how many tiles at once, does not."""
    return settings_of(model, images, config.model_dump(mode="json", exclude={"device", "batch"}))
