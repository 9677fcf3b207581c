"""Uncertainty of many images into files, one after the other, and places to paint in all of them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..config import DeviceName
from ..control import JobControl
from ..data.outputs import name_outputs
from ..data.predicted_image import PredictedImage
from ..data.records import ImageCollection, ImageRecord
from ..data.tiff_rows import TiffRows
from ..data.write import placing
from ..errors import DataError, StorageError
from ..events import Done, Event, ImageBegun, Notice, Progress, Started
from ..model.mae import MaskedAutoencoder
from ..model.model_file import load_model
from ..model.segmenter import Segmenter
from .segment import check_channels, load_segmenter, segment_events
from .suggest import CELL_PATCHES, COUNT, Suggestions, suggest
from .tiling import FloatArray
from .uncertainty import CellMeans, uncertainty

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


class _Stopped(Exception):
    """Unwinds the image that is being worked on, so that nothing half-written stays."""


def suggest_to_files(
    model: Segmenter | Path | str,
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
    overwrite: bool = False,
    control: JobControl | None = None,
) -> Generator[Event, None, None]:
    """Predict images, write how unsure each prediction is, and suggest places to paint in all of them.

    An image may be larger than memory: rows are written as they are finished, and only means over places are kept.

    Parameters
    ----------
    model
        The segmenter, or its file or run folder.
    images
        Where to look.
    out
        Folder for ``<image>_uncertainty.tif``.
    paint
        What is painted already, ids ``[H, W]`` by name of the image.
    features
        The network whose features say what is alike; None takes the segmenter.
    count
        How many places at most.
    tile, overlap, batch, device
        As in :func:`~napari_affmae.engine.segment.segment_events`.
    overwrite
        Whether files that are there already are replaced.
    control
        As in :func:`~napari_affmae.engine.pretrain.pretrain`.

    Yields
    ------
    Event
        For each image ``ImageBegun`` and ``Progress``; then the events of :func:`~napari_affmae.engine.suggest.suggest`;
        ``Notice``, also for an image that cannot be read; ``Done`` with a :class:`SuggestResult`.

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
    side = CELL_PATCHES * seen_by.config.patch_size
    paths = [
        output.labels.with_name(output.labels.name.removesuffix(_SUFFIX) + "_uncertainty" + _SUFFIX)
        for output in name_outputs(Path(out), [record.name for record in images.records], "tiff")
    ]
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise StorageError(f"{there[0]} is there already; choose another folder or allow it to be overwritten")
    predicted: list[PredictedImage] = []
    written: list[Path] = []
    reasons: list[str] = []
    started = False
    for number, (record, path) in enumerate(zip(images.records, paths, strict=True)):
        yield ImageBegun("suggest", record.name, number + 1, len(paths))
        means = CellMeans(record.height, record.width, side)
        events = _write(
            network, record, path, means, overwrite,
            tile=tile, overlap=overlap, batch=batch, device=device, control=control,
        )  # fmt: skip
        try:
            for event in events:
                if isinstance(event, Progress):
                    yield replace(event, fraction=(number + event.fraction) / len(paths))
                elif not isinstance(event, Started) or not started:
                    started |= isinstance(event, Started)
                    yield event
        except DataError as error:
            reasons.append(str(error))
            yield Notice("suggest", f"skipped {record.name}: {error}")
            continue
        except _Stopped:
            yield Done("suggest", number, Path(out), stopped=True)
            return
        written.append(path)
        predicted.append(PredictedImage(record, means.means, (paint or {}).get(record.name), side))
    if not predicted:
        raise DataError(f"none of the images could be predicted, the first because {reasons[0]}")
    for event in suggest(seen_by, predicted, count=count, device=device, control=control):
        if isinstance(event, Done) and isinstance(event.result, Suggestions):
            yield replace(event, path=Path(out), result=SuggestResult(event.result, tuple(written)))
        elif not isinstance(event, Started):
            yield event


def _write(
    network: Segmenter,
    record: ImageRecord,
    path: Path,
    means: CellMeans,
    overwrite: bool,
    *,
    control: JobControl,
    **options: Any,
) -> Generator[Event, None, None]:
    """Predict one image into a file and into means over places."""
    image = record.open()
    with (
        placing(path, overwrite) as place,
        TiffRows(place, (record.height, record.width), "float32", record.pixel_size) as rows,
    ):

        def take(top: int, probabilities: FloatArray) -> None:
            values = uncertainty(probabilities)
            rows.write(top, values)
            means.add(top, values)

        for event in segment_events(network, image, pixel_size=record.pixel_size, control=control, into=take, **options):
            if isinstance(event, Done):
                if event.stopped:
                    raise _Stopped
            else:
                yield event
