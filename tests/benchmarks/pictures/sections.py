"""The images that figures are made from: a square of a labelled section, and its pixel size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from comparison.datasets import DATASETS, Dataset, Part, labelled

PIXELS = {"em_vnc_sstem": 4.6, "em_isbi2012": 4.0}
"""Nanometres per pixel where the data sets' descriptions say them; the files do not."""


@dataclass(frozen=True, eq=False)
class Section:
    """A square of an image.

    Attributes
    ----------
    name
        Of the image.
    image, labels
        ``[S, S]``: grey values, and class indices.
    dataset
        Where it is from.
    """

    name: str
    image: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    dataset: Dataset

    @property
    def nanometres(self) -> float | None:
        """Return the size of a pixel, if it is known."""
        return PIXELS.get(self.dataset.name)


def sections(root: Path, name: str, part: Part, side: int) -> list[Section]:
    """Return the middle square of every image of a part of a data set, at most ``side`` pixels wide."""
    dataset = DATASETS[name]
    found = []
    for example in labelled(root, dataset, part):
        image = example.record.read()[..., 0]
        top, left = (max(0, (size - side) // 2) for size in image.shape)
        square = (slice(top, top + side), slice(left, left + side))
        found.append(Section(example.name, image[square], example.labels[square], dataset))
    return found
