"""Random tiles for pretraining."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import Normalisation
from ..errors import DataError
from .crops import start_at
from .image_cache import ImageCache
from .normalisation import apply
from .records import MOST_BYTES, ImageCollection, Skipped


class TileSampler:
    """Cut batches of normalised tiles, images weighted by their area.

    A batch depends on the seed and the step alone, so that a resumed run sees what the uninterrupted one would have seen.
    An image that cannot be read any more is replaced by the next one and noted in ``lost``.

    Parameters
    ----------
    collection, normalisation
        The images and their statistics.
    tile, batch
        Side of the tiles in pixels and tiles per step. Smaller images are padded by reflection.
    seed
        Seed of everything random.
    cache_bytes
        Memory for decoded images.

    Attributes
    ----------
    lost
        Images that vanished or broke since the scan, with reasons.
    """

    def __init__(
        self,
        collection: ImageCollection,
        normalisation: Normalisation,
        tile: int,
        batch: int,
        seed: int = 0,
        cache_bytes: int = MOST_BYTES,
    ) -> None:
        self._records = collection.records
        self._channels = collection.channels
        self._normalisation = normalisation
        self._tile = tile
        self._batch = batch
        self._seed = seed
        self._cache = ImageCache(self._records, cache_bytes)
        areas = np.array([max(record.height, tile) * max(record.width, tile) for record in self._records], float)
        self._weights = areas / areas.sum()
        self.lost: list[Skipped] = []
        self._lost_indices: set[int] = set()

    @property
    def tiles_per_epoch(self) -> int:
        """Number of tiles that cover every image once."""
        return sum(math.ceil(record.height / self._tile) * math.ceil(record.width / self._tile) for record in self._records)

    @property
    def fingerprints(self) -> list[str]:
        """Fingerprints of the images that tiles were cut from so far."""
        return list(self._cache.fingerprints.values())

    def batch(self, step: int) -> npt.NDArray[np.float32]:
        """Return the tiles of a step, float32 ``[B, C, T, T]``.

        Raises
        ------
        DataError
            If no image of the collection can be read any more.
        """
        rng = np.random.default_rng([self._seed, step])
        out = np.empty((self._batch, self._channels, self._tile, self._tile), np.float32)
        indices = rng.choice(len(self._records), self._batch, p=self._weights).tolist()
        # Drawn before reading, so that a lost image moves no other crop.
        units = rng.random((self._batch, 2))
        for place in self._cache.order(indices):
            out[place] = apply(self._crop(indices[place], units[place]), self._normalisation)
        return out

    def _crop(self, index: int, unit: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """Cut a tile at a place in 0..1 of an image, or of the next readable one."""
        for candidate in ((index + offset) % len(self._records) for offset in range(len(self._records))):
            if candidate in self._lost_indices:
                continue
            record = self._records[candidate]
            sides = (record.height, record.width)
            row, column = (start_at(part, size, self._tile) for part, size in zip(unit, sides, strict=True))
            try:
                return self._cache.crop(candidate, row, column, self._tile)
            except DataError as error:
                self._lost_indices.add(candidate)
                self.lost.append(Skipped(self._records[candidate].name, str(error)))
        raise DataError(
            f"none of the {len(self._records)} images can be read any more, the last because {self.lost[-1].reason}; "
            "is the drive still there?"
        )
