"""The held-out score of a finetuning run: quick, on tiles that hold the labels kept back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo, Normalisation
from ..data.crops import crop
from ..data.labels import IGNORE, HeldOut
from ..data.normalisation import apply
from ..data.records import prepare
from ..errors import DataError
from ..events import Score
from .confusion import Confusion
from .image_source import ArraySource
from .predictor import Predictor
from .tiling import FloatArray

_Tile: TypeAlias = tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]
"""A normalised tile, how bright the background of its image is, and class indices."""


class Scorer:
    """Measures a segmenter on a fixed choice of tiles.

    Tiles lie on a grid; those that hold most of the held-out labels are taken, with the pixels of rare classes counting more.

    Parameters
    ----------
    held_out
        Labels that training does not see.
    classes
        The class table.
    normalisation
        Statistics of the images.
    tile
        Side of the tiles in pixels.
    most_tiles
        Number of tiles that a score may take.
    """

    def __init__(
        self,
        held_out: Sequence[HeldOut],
        classes: Sequence[ClassInfo],
        normalisation: Normalisation,
        tile: int,
        most_tiles: int,
    ) -> None:
        self._classes = tuple(classes)
        counts = sum((_count(entry.targets, len(classes)) for entry in held_out), start=np.zeros(len(classes), np.int64))
        value = 1 / np.maximum(counts, 1)
        places = [
            (float((_count(targets, len(classes)) * value).sum()), number, row, column)
            for number, entry in enumerate(held_out)
            for row in _starts(entry.targets.shape[0], tile)
            for column in _starts(entry.targets.shape[1], tile)
            if ((targets := entry.targets[row : row + tile, column : column + tile]) != IGNORE).any()
        ]
        chosen = sorted(places, key=lambda place: (-place[0], *place[1:]))[:most_tiles]
        self._tiles: list[_Tile] = []
        for number in sorted({place[1] for place in chosen}):
            entry = held_out[number]
            corners = [(row, column) for _, place, row, column in chosen if place == number]
            try:
                self._tiles += _cut(entry, corners, tile, normalisation)
            except DataError:
                continue  # Training reports an image that vanished; its labels are no loss to the score.

    def __bool__(self) -> bool:
        return bool(self._tiles)

    def score(self, step: int, predict: Predictor) -> Score:
        """Measure the model as it is now."""
        confusion = Confusion(self._classes)
        for image, background, targets in self._tiles:
            confusion.add(predict(image[None], background)[0].argmax(axis=0), targets)
        return Score("finetune", step, confusion.miou, confusion.iou, confusion.pixels)


def _cut(entry: HeldOut, corners: Sequence[tuple[int, int]], tile: int, normalisation: Normalisation) -> list[_Tile]:
    """Read tiles of an image, given by their upper left corners."""
    image = entry.record.load()
    background = ArraySource(image, normalisation).background()
    tiles = []
    for row, column in corners:
        targets = np.full((tile, tile), IGNORE, np.int64)
        inside = entry.targets[row : row + tile, column : column + tile]
        targets[: inside.shape[0], : inside.shape[1]] = inside
        pixels = prepare(crop(image, row, column, tile), None)
        tiles.append((apply(pixels, normalisation), background, targets))
    return tiles


def _count(targets: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(targets[targets != IGNORE], minlength=num_classes)


def _starts(size: int, tile: int) -> range:
    return range(0, max(1, size), tile)
