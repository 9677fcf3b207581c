"""Segmentation of images of any size by overlapping, blended tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import affmae_kernels
import numpy as np
import numpy.typing as npt
import torch

from ..card import ClassInfo, PixelSize
from ..config import DeviceName, Views
from ..control import JobControl
from ..data.classes import class_table_of
from ..data.pixel_size import is_other_scale, scale_factors
from ..errors import DataError, ModelFileError
from ..events import Done, Event, Notice, Started
from ..model.model_file import load_model
from ..model.network import Network
from ..model.segmenter import Segmenter
from .clock import Clock
from .device import default_batch, describe_device, device_errors, limited_threads, resolve_device
from .image_fit import other_range
from .image_source import ArraySource, ImageSource, ResampledSource, scaled_size
from .memory import require_memory
from .predictor import Predictor
from .scaled_rows import ScaledRows
from .tiling import FloatArray, RowFunction, TiledPrediction, WholeImage, check_tile, cover
from .views import from_views

_TILE = 512
_BAND = 256
"""Rows that are worked on at a time."""


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """A segmented image.

    Attributes
    ----------
    labels
        ``[H, W]`` ids of the class table, the smallest unsigned type that holds them.
    probabilities
        float32 ``[K, H, W]`` in the order of ``classes``; they sum to 1 in every pixel.
    classes
        The model's class table.
    """

    labels: npt.NDArray[Any]
    probabilities: FloatArray
    classes: tuple[ClassInfo, ...]


def segment(
    model: Segmenter | Path | str,
    image: Any,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    device: DeviceName = "auto",
    pixel_size: PixelSize | None = None,
    views: Views = 1,
) -> SegmentationResult:
    """Segment an image; see :func:`segment_events` for the parameters and errors."""
    for event in segment_events(
        model, image, tile=tile, overlap=overlap, batch=batch, device=device, pixel_size=pixel_size, views=views
    ):
        if isinstance(event, Done) and isinstance(event.result, SegmentationResult):
            return event.result
    raise DataError("the segmentation ended without a result")


def segment_events(
    model: Segmenter | Path | str,
    image: Any,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    device: DeviceName = "auto",
    pixel_size: PixelSize | None = None,
    control: JobControl | None = None,
    threads: int | None = None,
    views: Views = 1,
    into: RowFunction | None = None,
) -> Iterator[Event]:
    """Segment an image and say how far it is.

    Parameters
    ----------
    model
        A segmenter, which is moved to the device and stays there, or the file or run folder of one.
    image
        ``[H, W]`` or ``[H, W, C]`` of any size and type: numpy, dask or zarr, read tile by tile.
    tile
        Side of a tile in pixels, a multiple of the model's patch size; None takes that of the training.
    overlap
        Least overlap of tiles in pixels, up to half a tile; None takes a quarter.
    batch
        Tiles at once; None chooses by device. It changes speed and memory, not the result.
    device
        Where to compute.
    pixel_size
        Size of the image's pixels. If it differs from that of the model by more than a tenth, the image is segmented at the
        model's pixel size and the result is scaled back.
    control, threads
        As in :func:`~napari_affmae.engine.pretrain.pretrain`.
    views
        Mirrored and turned views of each tile that are averaged, 1, 2, 4 or 8: a little better for so many times the time.
    into
        Takes probabilities row by row, as they are finished, for images whose result would not fit into memory; None gathers
        them in the result.

    Yields
    ------
    Event
        ``Started``; ``Progress`` after each batch of tiles, ``step`` counting tiles; ``Notice``; ``Done`` with a
        :class:`SegmentationResult` as its ``result``, or None if it was stopped or the rows went ``into`` something else.

    Raises
    ------
    DataError
        If the image has other channels than the model, the wrong number of axes, or values that are NaN or infinite.
    ModelFileError
        If the model is no segmenter, or cannot be read.
    ConfigError
        If tile and overlap do not fit.
    DeviceError
        If the device is not there or its memory is too small for a single tile.
    """
    place = resolve_device(device)
    network = load_segmenter(model)
    control = control or JobControl()
    raw = ArraySource(image)
    check_channels(network, raw.channels)
    normalisation = network.card.normalisation or raw.measure()
    for notice in misfits(network, "the image", raw, pixel_size).values():
        yield Notice("segment", notice)
    source: ImageSource = raw.normalised(normalisation)
    factors, _ = rescaling(network, pixel_size)
    if factors is not None:
        source = ResampledSource(source, factors)
    patch = network.config.patch_size
    tile = tile or default_tile(network)
    predictor = Predictor(network, place)
    background = None if network.readout is None else source.background()
    whole = WholeImage(raw.height)
    if into is None:
        require_memory(
            raw.height * raw.width * (4 * network.num_classes + 2),
            f"a segmentation of {raw.height} × {raw.width} pixels in {network.num_classes} classes",
            "segment it into a file on the command line, which takes little memory",
        )
    rows = into or whole
    if factors is not None:
        rows = ScaledRows((source.height, source.width), (raw.height, raw.width), rows)
    prediction = TiledPrediction(
        from_views(partial(predictor, background=background), views),
        source,
        tile=tile,
        overlap=tile // 4 if overlap is None else overlap,
        batch=batch or _default_batch(place, network, tile),
        align=patch,
        into=rows,
    )
    with device_errors(place, "choose a smaller tile"), limited_threads(threads):
        yield Started(
            "segment",
            total_steps=prediction.tiles,
            device=describe_device(place),
            kernels=affmae_kernels.describe(place),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
        )
        clock = Clock()
        done = 0
        for tiles in prediction.run():
            clock.count(tiles - done)
            done = tiles
            while predictor.notices:
                yield Notice("segment", predictor.notices.pop(0))
            yield clock.progress("segment", done, prediction.tiles)
            clock.leave_out(control.wait_while_paused())
            if control.stop_requested and done < prediction.tiles:
                yield Done("segment", done, None, stopped=True)
                return
        result = None
        if whole.values is not None:
            result = SegmentationResult(labels_of(whole.values, class_table_of(network)), whole.values, class_table_of(network))
        yield Done("segment", done, None, result=result, summary={"tiles": done, "seconds": round(clock.elapsed, 3)})


def default_tile(model: Network) -> int:
    """Return the side of the tiles for a model: that of its training, a multiple of its patch size."""
    patch = model.config.patch_size
    return -(-(model.card.tile or _TILE) // patch) * patch


def count_tiles(
    model: Segmenter, height: int, width: int, *, tile: int | None, overlap: int | None, pixel_size: PixelSize | None
) -> int:
    """Return the number of tiles that :func:`segment_events` takes for an image of this size."""
    factors, _ = rescaling(model, pixel_size)
    if factors is not None:
        height, width = scaled_size(height, width, factors)
    side = tile or default_tile(model)
    check_tile(side, model.config.patch_size)
    lap = side // 4 if overlap is None else overlap
    return math.prod(len(cover(size, side, lap, model.config.patch_size).starts) for size in (height, width))


def load_segmenter(model: Segmenter | Path | str) -> Segmenter:
    """Return a segmenter, read from a file or run folder if need be.

    Raises
    ------
    ModelFileError
        If it is another kind of model.
    """
    network = load_model(model) if isinstance(model, str | Path) else model
    if not isinstance(network, Segmenter):
        name = str(model) if isinstance(model, str | Path) else type(model).__name__
        raise ModelFileError(f"{name} is no segmenter but a pretrained network: finetune it on labels first")
    return network


def check_channels(model: Segmenter | Any, channels: int) -> None:
    """Raise :class:`DataError` if images of so many channels do not fit a model."""
    expected = model.config.in_channels
    if channels != expected:
        raise DataError(
            f"the image has {channels} channel{'s' if channels != 1 else ''}, but the model was made for {expected}: "
            "choose the channels that it was trained on (--channels on the command line), or another model"
        )


def misfits(model: Segmenter, name: str, image: ArraySource, pixel_size: PixelSize | None) -> dict[str, str]:
    """Say how an image, raw, does not fit a network: a sentence for its ``"range"`` of values and one for its ``"scale"``."""
    statistics = model.card.normalisation
    found = {
        "range": None if statistics is None else other_range(name, image, statistics),
        "scale": rescaling(model, pixel_size)[1],
    }
    return {kind: notice for kind, notice in found.items() if notice is not None}


def rescaling(model: Any, pixel_size: PixelSize | None) -> tuple[tuple[float, float] | None, str | None]:
    """Compare an image's pixel size with a model's.

    Returns
    -------
    factors, notice
        By how much to enlarge rows and columns, or None if the image is taken as it is; and what to tell the user, if anything.
    """
    own = model.card.pixel_size
    if pixel_size is None or own is None:
        return None, None
    factors = scale_factors(pixel_size, own)
    if not is_other_scale(factors):
        return None, None
    return factors, (
        f"the image has {pixel_size.in_words()} per pixel, the model was trained at {own.in_words()}: the image is scaled by "
        f"{_in_words(factors)} for the model, and the result back"
    )


def _in_words(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3g}" if np.isclose(*pair, rtol=1e-3) else f"{pair[0]:.3g} × {pair[1]:.3g}"


def _default_batch(device: torch.device, model: Segmenter, tile: int) -> int:
    # A tile on a CPU takes long enough by itself; a stop should not have to wait for more.
    return 1 if device.type == "cpu" else default_batch(device, model.config, tile, whole=True)


def labels_of(probabilities: FloatArray, classes: Sequence[ClassInfo]) -> npt.NDArray[Any]:
    """Return the ids ``[H, W]`` of the most probable classes of ``[K, H, W]``, in the smallest unsigned type for the table."""
    ids = np.array([info.id for info in classes])
    table = ids.astype(np.min_scalar_type(int(ids.max())))
    # Band by band: argmax makes int64, which for a whole large image would be larger than the result.
    labels = np.empty(probabilities.shape[1:], table.dtype)
    for top in range(0, len(labels), _BAND):
        labels[top : top + _BAND] = table[probabilities[:, top : top + _BAND].argmax(axis=0)]
    return labels
