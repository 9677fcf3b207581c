"""Labelled microscopy with a fixed split, and unlabelled images to pretrain on that never hold a validation or test image.

A data set is a folder with ``images/``, ``labels/`` (files of the same names) and ``split.csv``; the folder of all of them is
given on the command line, or by the environment variable ``AFFMAE_DATA``.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_affmae.card import ClassInfo
from napari_affmae.data.label_images import LabelledImage, pair_labels
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import scan
from napari_affmae.data.scribbles import scribbles
from napari_affmae.palette import PALETTE

Paint = Literal["dense", "scribbles"]
Part = Literal["train", "val", "test"]

SCRIBBLED = 0.01
"""Part of the pixels of each class of an image that strokes cover; three strokes at least, which are more where it is rare."""


@dataclass(frozen=True)
class Dataset:
    """What is known about a folder beforehand.

    Attributes
    ----------
    name
        Of the folder.
    classes
        Names by label id, 0 first.
    instances
        Whether labels number objects; every object is then the one class of the foreground.
    thin
        Class whose outline is scored, too, or None.
    pools
        Folders of unlabelled images of the same kind.
    """

    name: str
    classes: tuple[str, ...]
    instances: bool = False
    thin: int | None = None
    pools: tuple[str, ...] = ()

    def table(self, paint: Paint) -> tuple[ClassInfo, ...]:
        """Return the class table of labels that are painted in this way; strokes leave 0 for what is not labelled."""
        first = int(paint == "scribbles")
        colors = itertools.cycle(PALETTE)
        return tuple(
            ClassInfo(id=first + place, name=name, color=color)
            for place, (name, color) in enumerate(zip(self.classes, colors, strict=False))
        )


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("em_vnc_sstem", ("intracellular", "membrane", "mitochondria", "synapse", "glia"), thin=1, pools=("em_pool",)),
        Dataset("em_isbi2012", ("interior", "membrane"), thin=1, pools=("em_pool",)),
        Dataset("fluo_dsb2018", ("background", "nucleus"), instances=True),
        Dataset("rgb_dsb2018_histology", ("background", "nucleus"), instances=True),
    )
}


def data_folder(given: Path | None) -> Path:
    """Return the folder of all data sets.

    Raises
    ------
    FileNotFoundError
        If it was not given, or is not there.
    """
    folder = given or Path(os.environ.get("AFFMAE_DATA", ""))
    if not given and not os.environ.get("AFFMAE_DATA"):
        raise FileNotFoundError("give the folder of the data sets with --root, or in AFFMAE_DATA")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    return folder


def labelled(root: Path, dataset: Dataset, part: Part) -> list[LabelledImage]:
    """Return the labelled images of a part of the split, in the order of their names, dense ids from 0."""
    folder = root / dataset.name
    images, skipped = pair_labels(
        folder / "images", folder / "labels", f"{folder / 'split.csv'}:{part}", foreground=dataset.instances
    )
    if skipped:
        raise ValueError(f"{dataset.name}: {skipped[0]}")
    return images


def spread(images: Sequence[LabelledImage], count: int | None) -> list[LabelledImage]:
    """Choose ``count`` images far apart from each other in the order they are in; None for all."""
    if count is None or count >= len(images):
        return list(images)
    chosen = list(images[:: math.ceil(len(images) / count)][:count])
    # With 10 images a step of two would leave five of eight.
    return chosen if len(chosen) == count else [images[place * len(images) // count] for place in range(count)]


def painted(images: Sequence[LabelledImage], paint: Paint, seed: int) -> list[LabelledImage]:
    """Return the images with what a user would have painted: everything, or strokes (0 is then not labelled, ids + 1)."""
    if paint == "dense":
        return list(images)
    return [
        LabelledImage(image.record, scribbles(image.labels, SCRIBBLED, seed * 1000 + number))
        for number, image in enumerate(images)
    ]


def unlabelled(root: Path, dataset: Dataset) -> ImageCollection:
    """Return the training images, without labels, and the pools."""
    folder = root / dataset.name
    parts = [scan(folder / "images", f"{folder / 'split.csv'}:train")]
    parts += [scan(root / pool) for pool in dataset.pools]
    return ImageCollection(tuple(record for part in parts for record in part.records))
