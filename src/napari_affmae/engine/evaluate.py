"""How well a segmenter does on labelled images that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo
from ..config import DeviceName, Views
from ..data.classes import IGNORE, class_table_of, places_by_name
from ..data.labels import LabelledImage, to_targets
from ..data.parts import blocks
from ..errors import LabelError
from ..model.segmenter import Segmenter
from .confusion import Confusion
from .image_source import ArraySource
from .segment import load_segmenter, misfits, segment_events
from .tiling import FloatArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures over all labelled pixels of all images together.

    Attributes
    ----------
    miou
        Mean intersection over union over the classes that the labels hold, 0 to 1.
    iou
        The same per class name.
    accuracy
        Part of the pixels that are right.
    majority_miou
        ``miou`` of always saying the most frequent class: a model below it has learned nothing.
    pixels
        Number of labelled pixels.
    confusion
        int64 ``[K, K]``: rows are true classes, columns predicted ones, in the order of the class table.
    notices
        How the images do not fit the network, in their pixel size or the range of their values: one sentence each.
    """

    miou: float
    iou: dict[str, float]
    accuracy: float
    majority_miou: float
    pixels: int
    confusion: npt.NDArray[np.int64]
    notices: tuple[str, ...] = ()


def evaluate(
    model: Segmenter | Path | str,
    examples: Sequence[LabelledImage],
    *,
    device: DeviceName = "auto",
    views: Views = 1,
    sparse: bool = False,
    classes: Sequence[ClassInfo] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Segment labelled images and compare.

    Parameters
    ----------
    model
        A segmenter, or the file or run folder of one.
    examples
        Labelled images.
    device
        Where to compute.
    views
        As in :func:`~napari_affmae.engine.segment.segment_events`.
    sparse
        Whether 0 means not labelled.
    classes
        The classes of the labels, which are those of the same names in the model; None where ids are the model's own.
    on_progress
        Called as ``on_progress(done, total)`` after each image.

    Raises
    ------
    LabelError
        If there is nothing labelled, an id or a name is not in the model's class table, or that has a class 0 and labels
        without names are sparse.
    DataError
        If an image has other channels than the model, or cannot be read.
    ModelFileError
        If the model is no segmenter.
    """
    network = load_segmenter(model)
    own = class_table_of(network)
    # What is not labelled has index -1, and stays so.
    places = np.append(np.arange(len(own)) if classes is None else places_by_name(classes, own), IGNORE)

    def targets_of(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return places[to_targets(labels, classes or own, sparse)]

    # All labels first: an id that does not fit should not come to light after an hour.
    parts = (part for example in examples for part in blocks(example.labels))
    if not sum(int((targets_of(part) >= 0).sum()) for part in parts):
        raise LabelError("nothing is labelled, so there is nothing to compare with; give images with labels")
    confusion = Confusion(own)
    notices: dict[str, str] = {}  # the first of its kind: images of a folder are mostly alike
    for number, example in enumerate(examples, start=1):
        image, size = example.record.load(), example.record.pixel_size
        for kind, notice in misfits(network, example.name, ArraySource(image), size).items():
            notices.setdefault(kind, notice)

        def count(top: int, rows: FloatArray, labels: npt.NDArray[Any] = example.labels) -> None:
            confusion.add(rows.argmax(axis=0), targets_of(labels[top : top + rows.shape[1]]))

        for _ in segment_events(network, image, device=device, pixel_size=size, views=views, into=count):
            pass
        if on_progress is not None:
            on_progress(number, len(examples))
    return Evaluation(
        confusion.miou,
        confusion.iou,
        confusion.accuracy,
        confusion.majority_miou,
        confusion.pixels,
        confusion.matrix,
        tuple(notices.values()),
    )
