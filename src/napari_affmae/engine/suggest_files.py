"""Uncertainty of many images into files, one after the other, and places to paint in all of them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..config import DeviceName
from ..control import JobControl, Stopped
from ..data.output_log import PLACES_LOG, OutputLog, Request
from ..data.outputs import Outputs, name_outputs
from ..data.predicted_image import PredictedImage
from ..data.records import ImageCollection, ImageRecord
from ..data.suggestions import Suggestions
from ..data.tiff_rows import TiffRows, read_rows
from ..data.write import placing
from ..events import Done, Event, ImageBegun, Progress, Started
from ..model.mae import MaskedAutoencoder
from ..model.model_file import load_model
from ..model.segmenter import Segmenter
from .folder_run import FolderRun, settings_of
from .segment import check_channels, count_tiles, load_segmenter, segment_events
from .suggest import CELL_PATCHES, COUNT, suggest
from .tiling import FloatArray
from .uncertainty import cell_means, uncertainty

_SUFFIX = ".tif"


@dataclass(frozen=True)
class SuggestResult:
    """What was found and written.

    Attributes
    ----------
    suggestions
        The places.
    written
        A float32 TIFF for each image, 0 to 1: how unsure the prediction is in every pixel.
    """

    suggestions: Suggestions
    written: tuple[Path, ...]


def suggest_to_files(
    model: Path | str,
    images: ImageCollection,
    out: Path | str,
    *,
    paint: Mapping[str, npt.NDArray[Any]] | None = None,
    features: MaskedAutoencoder | Segmenter | Path | str | None = None,
    count: int = COUNT,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    device: DeviceName = "auto",
    resume: bool = False,
    overwrite: bool = False,
    control: JobControl | None = None,
) -> Generator[Event, None, None]:
    """Predict images, write how unsure each prediction is, and suggest places to paint in all of them.

    An image may be larger than memory: rows are written as they are finished, and only means over places are kept.

    Parameters
    ----------
    model
        File or run folder of the segmenter.
    images
        Where to look.
    out
        Folder for ``<image>_uncertainty.tif``, and ``suggest.jsonl``, from which a run can go on.
    paint
        What is painted already, ids ``[H, W]`` by name of the image.
    features
        The network whose features say what is alike; None takes the segmenter.
    count
        How many places at most.
    tile, overlap, batch, device
        As in :func:`~napari_affmae.engine.segment.segment_events`.
    resume
        Whether images are left out whose prediction is there from an earlier run with the same model and settings; how many
        places, and by which features and paint, may be others.
    overwrite
        Whether files that are there already are replaced.
    control
        As in :func:`~napari_affmae.engine.pretrain.pretrain`.

    Yields
    ------
    Event
        For each image ``ImageBegun``, ``Progress`` and ``ImageWritten``; then the events of
        :func:`~napari_affmae.engine.suggest.suggest`; ``Notice``, also for an image that cannot be read; ``Done`` with a
        :class:`SuggestResult`.

    Raises
    ------
    ModelFileError, DataError, DeviceError, ConfigError
        As the two functions that it uses.
    StorageError
        If files are there already and not to be overwritten, or cannot be written.
    """
    network = load_segmenter(model)
    seen_by = network if features is None else load_model(features) if isinstance(features, Path | str) else features
    for one in (network, seen_by):
        check_channels(one, images.channels)
    control = control or JobControl()
    out = Path(out)
    side = CELL_PATCHES * seen_by.config.patch_size
    run = FolderRun(
        "suggest", OutputLog(out, PLACES_LOG), images, _outputs(images, out),
        settings_of(model, images, {"tile": tile, "overlap": overlap}), resume=resume, overwrite=overwrite,
    )  # fmt: skip
    options = {"tile": tile, "overlap": overlap, "batch": batch, "device": device, "control": control}
    tiles = [
        count_tiles(network, one.height, one.width, tile=tile, overlap=overlap, pixel_size=one.pixel_size) for one in run.left
    ]
    yield from _counted(run.each(partial(_write, network, options)), tiles)
    if run.stopped:
        yield Done("suggest", len(run.written), out, stopped=True)
        return
    if not run.finished:
        run.require_any("predicted")
    predicted, written = [], []
    for record, request in run.finished:
        values = read_rows(request.outputs.labels, (record.height, record.width))
        predicted.append(PredictedImage(record, cell_means(values, side), (paint or {}).get(record.name), side))
        written.append(request.outputs.labels)
    for event in suggest(seen_by, predicted, count=count, device=device, control=control):
        if isinstance(event, Done) and isinstance(event.result, Suggestions):
            yield replace(event, path=out, result=SuggestResult(event.result, tuple(written)))
        elif not isinstance(event, Started):
            yield event


def _outputs(images: ImageCollection, out: Path) -> list[Outputs]:
    named = name_outputs(out, [record.name for record in images.records], "tiff")
    return [Outputs(one.labels.with_name(one.labels.name.removesuffix(_SUFFIX) + "_uncertainty" + _SUFFIX)) for one in named]


def _counted(events: Iterator[Event], tiles: Sequence[int]) -> Iterator[Event]:
    """Count the tiles of all images together; the first image says what they run on."""
    place, started, total, began = 0, False, sum(tiles), time.perf_counter()
    for event in events:
        if isinstance(event, ImageBegun):
            place = event.place
        if isinstance(event, Progress):
            step, elapsed = sum(tiles[: place - 1]) + event.step, time.perf_counter() - began
            yield replace(
                event, step=step, total_steps=total, fraction=step / total, elapsed_seconds=elapsed,
                eta_seconds=(total - step) * elapsed / step,
            )  # fmt: skip
        elif isinstance(event, Started):
            if not started:
                yield replace(event, total_steps=total)
            started = True
        else:
            yield event


def _write(
    network: Segmenter, options: Mapping[str, Any], record: ImageRecord, request: Request, replaceable: bool
) -> Generator[Event, None, dict[str, Any] | None]:
    """Predict one image into its file."""
    image = record.open()
    with (
        suppress(Stopped),
        placing(request.outputs.labels, replaceable) as place,
        TiffRows(place, (record.height, record.width), "float32", record.pixel_size) as rows,
    ):

        def take(top: int, probabilities: FloatArray) -> None:
            rows.write(top, uncertainty(probabilities))

        for event in segment_events(network, image, pixel_size=record.pixel_size, into=take, **options):
            if not isinstance(event, Done):
                yield event
            elif event.stopped:
                raise Stopped
        return {"shape": [record.height, record.width]}
    return None
