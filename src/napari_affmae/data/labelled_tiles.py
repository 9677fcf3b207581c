"""Random tiles that hold paint, for finetuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo, Normalisation
from ..errors import DataError, LabelError
from .classes import IGNORE
from .crops import crop, start_at
from .held_out import Kind, keep_back
from .image_cache import ImageCache
from .label_images import LabelledImage
from .lazy_plane import LazyPlane
from .normalisation import apply
from .records import MOST_BYTES, ImageRecord, Skipped

_MOST_PLACES = 100_000
"""Painted pixels remembered per class and image: enough that every stroke is among them, few enough to keep in memory."""

_MARGIN = 8
"""The chosen pixel lies at least an eighth of the tile inside its edges, where the image allows."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Labels of one image that training does not see.

    Attributes
    ----------
    record
        The image.
    targets
        int64 ``[H, W]``: class indices, -1 everywhere else.
    """

    record: ImageRecord
    targets: npt.NDArray[np.int64]


class LabelledSampler:
    """Cut batches of tiles around painted pixels, every class equally often.

    For each tile a class is drawn, all present ones equally likely, then a painted pixel of it, then a crop that holds this
    pixel anywhere but at its very edge. A batch depends on the seed and the step alone, until an image cannot be read any more:
    it is noted in ``lost``, and all further batches are drawn from the others.

    Parameters
    ----------
    examples, classes
        Labelled images and the class table.
    normalisation
        Statistics of the images.
    tile, batch
        Side of the tiles in pixels and tiles per step. Smaller images are padded by reflection, targets with them.
    seed
        Seed of everything random.
    sparse
        Whether 0 means not labelled.
    held_out
        Part of the labels to keep back, see :mod:`~napari_affmae.data.held_out`.
    cache_bytes
        Memory for decoded images.

    Attributes
    ----------
    held_out
        What was kept back: one entry per image that has some, empty if the paint cannot spare any.
    held_out_kind
        ``"images"``, ``"strokes"``, ``"blocks"`` or ``"none"``.
    class_pixels
        int64 ``[K]``: pixels of each class to train on.
    targets
        Per image, int16 ``[H, W]``: what there is to train on as class indices, -1 everywhere else.
    lost
        Images that vanished or broke since their labels were read, with reasons.

    Raises
    ------
    LabelError
        If nothing or only one class is painted, or an id is not in the table.
    """

    def __init__(
        self,
        examples: Sequence[LabelledImage],
        classes: Sequence[ClassInfo],
        normalisation: Normalisation,
        tile: int,
        batch: int,
        seed: int = 0,
        *,
        sparse: bool,
        held_out: float = 0.0,
        cache_bytes: int = MOST_BYTES,
    ) -> None:
        if not examples:
            raise LabelError("no labelled images; paint on at least one image")
        self._normalisation = normalisation
        self._tile = tile
        self._batch = batch
        self._seed = seed
        self._records = [example.record for example in examples]
        self._cache = ImageCache(self._records, cache_bytes)
        targets, masks, kind = keep_back(examples, classes, held_out, sparse=sparse, seed=seed)
        self.held_out_kind: Kind = kind
        self.held_out: tuple[HeldOut, ...] = tuple(
            HeldOut(record, np.where(mask, target, IGNORE).astype(np.int64))
            for record, target, mask in zip(self._records, targets, masks, strict=True)
            if mask.any()
        )
        self.targets = [np.where(mask, np.int16(IGNORE), target) for target, mask in zip(targets, masks, strict=True)]
        self.lost: list[Skipped] = []
        self._names = [info.name for info in classes]
        self._count()
        if not len(self._present):
            raise LabelError("nothing is painted; paint some pixels of at least two classes (0 means not labelled)")
        if len(self._present) == 1:
            name = self._names[self._present[0]]
            raise LabelError(f"only {name} is painted; paint at least two classes, one of them may be the background")
        self._places = [_places(target, len(classes), seed) for target in self.targets]

    def _count(self) -> None:
        counts = np.stack([np.bincount(t[t >= 0], minlength=len(self._names)) for t in self.targets])
        self.class_pixels: npt.NDArray[np.int64] = counts.sum(axis=0)
        self._present = np.flatnonzero(self.class_pixels)
        self._image_weights = counts / np.maximum(self.class_pixels, 1)

    @property
    def tiles_per_epoch(self) -> int:
        """Number of tiles that cover every image with paint once."""
        return sum(
            math.ceil(target.shape[0] / self._tile) * math.ceil(target.shape[1] / self._tile)
            for target in self.targets
            if (target >= 0).any()
        )

    @property
    def fingerprints(self) -> list[str]:
        """Fingerprints of the images that tiles were cut from so far."""
        return list(self._cache.fingerprints.values())

    def image(self, index: int) -> npt.NDArray[Any] | LazyPlane:
        """Return an image ``[H, W, C]``, to be sliced by rows and columns.

        Raises
        ------
        DataError
            If it cannot be read any more.
        """
        return self._cache[index]

    def batch(self, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return images float32 ``[B, C, T, T]`` and targets int64 ``[B, T, T]`` of a step; -1 is to be ignored.

        Raises
        ------
        DataError
            If those images that can still be read hold paint of less than two classes.
        """
        while (tiles := self._tiles(step)) is None:
            pass  # drawn anew from the images that are left
        return tiles

    def _tiles(self, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | None:
        """Draw a batch; None if it would take an image that is lost since just now."""
        rng = np.random.default_rng([self._seed, step])
        side = self._tile
        images = np.empty((self._batch, len(self._normalisation.mean), side, side), np.float32)
        targets = np.empty((self._batch, side, side), np.int64)
        drawn: list[tuple[int, int, int]] = []
        for class_index in rng.choice(self._present, self._batch):
            index = int(rng.choice(len(self._records), p=self._image_weights[:, class_index]))
            around = self._places[index][class_index]
            width = self.targets[index].shape[1]
            pixel = divmod(int(around[rng.integers(len(around))]), width)
            row, column = (
                _start_around(position, size, side, rng)
                for position, size in zip(pixel, self.targets[index].shape, strict=True)
            )
            drawn.append((index, row, column))
        for place in self._cache.order([index for index, _, _ in drawn]):
            index, row, column = drawn[place]
            try:
                pixels = self._cache.crop(index, row, column, side)
            except DataError as error:
                self.lose(index, error)
                return None
            images[place] = apply(pixels, self._normalisation)
            targets[place] = crop(self.targets[index], row, column, side)
        return images, targets

    def lose(self, index: int, error: DataError) -> None:
        """Go on without an image that cannot be read any more.

        Raises
        ------
        DataError
            If those that are left hold paint of less than two classes.
        """
        self.lost.append(Skipped(self._records[index].name, str(error)))
        self.targets[index] = np.full_like(self.targets[index], IGNORE)
        self._count()
        if not len(self._present):
            count = len(self._records)
            raise DataError(
                f"none of the {count} labelled images can be read any more, the last because {error}; is the drive still there?"
            ) from error
        if len(self._present) == 1:
            name = self._names[self._present[0]]
            raise DataError(f"{error}; only {name} is painted on the images that are left") from error


def _places(target: npt.NDArray[np.int16], num_classes: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Return flat indices of painted pixels per class, thinned out at random where there are very many."""
    rng = np.random.default_rng([seed, 1])
    places = []
    for index in range(num_classes):
        found = np.flatnonzero(target == index)
        places.append(found if len(found) <= _MOST_PLACES else rng.choice(found, _MOST_PLACES, replace=False))
    return places


def _start_around(position: int, size: int, tile: int, rng: np.random.Generator) -> int:
    """Draw the start of a crop that holds ``position`` and stays inside an axis of ``size`` if that is large enough."""
    if size <= tile:
        return start_at(rng.random(), size, tile)
    margin = tile // _MARGIN
    start = position - int(rng.integers(margin, tile - margin))
    return min(max(start, 0), size - tile)
