"""Where to paint next: places where the prediction is uncertain and the image unlike what is painted already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import affmae_kernels
import numpy as np
import numpy.typing as npt

from ..config import DeviceName
from ..control import JobControl
from ..data.predicted_image import PredictedImage
from ..data.suggestions import Place, Suggestions
from ..errors import DataError
from ..events import Done, Event, Started
from ..model.mae import MaskedAutoencoder
from ..model.model_file import load_model
from ..model.segmenter import Segmenter
from .box_features import box_features
from .clock import Clock
from .device import describe_device, device_errors, limited_threads, resolve_device
from .live_tiles import Region
from .places import choose, evenly, painted_cells, peaks
from .tiling import FloatArray
from .uncertainty import cell_means

COUNT = 10
"""Places to suggest if nobody says."""

CELL_PATCHES = 4
"""Side of a place in patches: a short stroke."""

_CANDIDATES = 12
"""Candidates per suggestion that features are computed of."""

_PAINTED = 64
"""Painted boxes that candidates are compared with, shared by the classes."""


@dataclass(frozen=True)
class _Spot:
    """Part of an image whose features count: a candidate with its uncertainty, or something painted."""

    image: int
    box: Region
    uncertainty: float = 0.0


def suggest(
    model: MaskedAutoencoder | Segmenter | Path | str,
    images: Sequence[PredictedImage],
    *,
    count: int = COUNT,
    device: DeviceName = "auto",
    rescale: bool = True,
    control: JobControl | None = None,
    threads: int | None = None,
) -> Iterator[Event]:
    """Suggest places to paint. The same input gives the same places.

    The most uncertain cells of all images that hold no paint and are no neighbours are compared by their features with each
    other and with what is painted; one after the other, the best product of uncertainty and unlikeness is taken.

    Parameters
    ----------
    model
        Whose features say what is alike: a pretrained network or a segmenter, which is moved to the device and stays there, or
        the file or run folder of one.
    images
        Predictions and paint.
    count
        How many places at most.
    device
        Where to compute.
    rescale
        Whether images are scaled to the model's pixel size if both are known.
    control, threads
        As in :func:`~napari_affmae.engine.pretrain.pretrain`.

    Yields
    ------
    Event
        ``Started``; ``Progress``, ``step`` counting boxes whose features were computed; ``Done`` with :class:`Suggestions` as
        its ``result``, or None if it was stopped.

    Raises
    ------
    DataError
        If no image has a prediction, or one cannot be read or has other channels than the model.
    ModelFileError
        If the model cannot be read.
    DeviceError
        If the device is not there or its memory does not suffice.
    """
    if all(image.uncertainty is None for image in images):
        raise DataError("there is no prediction to look for places in: segment an image first")
    place = resolve_device(device)
    network = load_model(model) if isinstance(model, Path | str) else model
    control = control or JobControl()
    cell = CELL_PATCHES * network.config.patch_size
    with device_errors(place, "close other programs"), limited_threads(threads):
        candidates = _candidates(images, cell, count * _CANDIDATES)
        spots = [*candidates, *_painted(images, cell)]
        yield Started(
            "suggest",
            total_steps=len(spots),
            device=describe_device(place),
            kernels=affmae_kernels.describe(place),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
        )
        network.to(place).eval()
        clock = Clock()
        features: list[FloatArray | None] = [None] * len(spots)
        done = 0
        for number, image in enumerate(images):
            here = [index for index, spot in enumerate(spots) if spot.image == number]
            if not (here and candidates):
                continue
            for position, values in box_features(
                network, place, image.record, [spots[index].box for index in here], rescale=rescale
            ):
                features[here[position]] = values
                done += 1
                clock.count(1)
                # The clock counts boxes, of which a tile holds many.
                yield replace(clock.progress("suggest", done, len(spots)), images_per_second=0.0)
                clock.leave_out(control.wait_while_paused())
                if control.stop_requested:
                    yield Done("suggest", done, None, stopped=True)
                    return
    chosen = _chosen(images, candidates, [one for one in features if one is not None], count)
    result = Suggestions(places=chosen, side=cell)
    yield Done("suggest", done, None, result=result, summary={"places": len(result.places)})


def _chosen(
    images: Sequence[PredictedImage], candidates: Sequence[_Spot], features: Sequence[FloatArray], count: int
) -> tuple[Place, ...]:
    if not candidates:
        return ()
    stacked = np.stack(features)
    ours, painted = stacked[: len(candidates)], stacked[len(candidates) :]
    places = []
    for index, unlike, score in choose([spot.uncertainty for spot in candidates], ours, painted, count):
        spot = candidates[index]
        row, column = (spot.box.top + spot.box.bottom) // 2, (spot.box.left + spot.box.right) // 2
        name = images[spot.image].record.name
        places.append(Place(image=name, row=row, column=column, uncertainty=spot.uncertainty, unlike=unlike, score=score))
    return tuple(places)


def _candidates(images: Sequence[PredictedImage], cell: int, most: int) -> list[_Spot]:
    """Return the most uncertain cells of all images, most uncertain first."""
    found = []
    for number, image in enumerate(images):
        if image.uncertainty is None:
            continue
        side = image.step * max(1, round(cell / image.step))
        cells = cell_means(image.uncertainty, side // image.step)
        if image.paint is not None:
            cells = np.where(painted_cells(image.paint, side), np.nan, cells)
        # What is left over at the lower and the right edge: a mean over few pixels is extreme by chance.
        for axis, size in enumerate((image.record.height, image.record.width)):
            if size > side and 0 < size % side < side / 2:
                cells[(slice(None),) * axis + (-1,)] = np.nan
        for row, column in peaks(cells, most):
            found.append(_Spot(number, _box(image, row, column, side), float(cells[row, column])))
    # Sorting is stable: among equals the first image, and in it the first place, comes first.
    return sorted(found, key=lambda spot: -spot.uncertainty)[:most]


def _painted(images: Sequence[PredictedImage], cell: int) -> list[_Spot]:
    """Return boxes around what is painted, of every class about as many."""
    by_class: dict[int, list[_Spot]] = {}
    for number, image in enumerate(images):
        if image.paint is None:
            continue
        for row, column in np.argwhere(painted_cells(image.paint, cell)).tolist():
            box = _box(image, row, column, cell)
            part = image.paint[box.top : box.bottom, box.left : box.right]
            for class_id in np.unique(part[part > 0]).tolist():
                by_class.setdefault(class_id, []).append(_Spot(number, _around(part == class_id, box)))
    if not by_class:
        return []
    most = max(1, _PAINTED // len(by_class))
    return [spots[index] for _, spots in sorted(by_class.items()) for index in evenly(len(spots), most)]


def _box(image: PredictedImage, row: int, column: int, side: int) -> Region:
    top, left = row * side, column * side
    return Region(top, left, min(top + side, image.record.height), min(left + side, image.record.width))


def _around(mask: npt.NDArray[Any], box: Region) -> Region:
    """Return the box around the pixels of a mask, which begins where ``box`` does."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Region(box.top + rows[0], box.left + columns[0], box.top + rows[-1] + 1, box.left + columns[-1] + 1)
