"""The images of a live session, as the tiles that its network sees."""

from __future__ import annotations

from collections.abc import Mapping

from ..data.records import ImageRecord
from ..model.segmenter import Segmenter
from .finetune import statistics_of
from .image_fit import other_range
from .image_source import ArraySource
from .live_tiles import OVERLAP, TiledImage
from .segment import check_channels


class LiveImages:
    """Open images by name.

    Parameters
    ----------
    tile
        Side of the tiles in pixels.

    Attributes
    ----------
    overlap
        Of the tiles, in pixels.
    notices
        How images do not fit the network, each said once; whoever tells the user takes them out.
    """

    def __init__(self, tile: int) -> None:
        self.overlap = tile // OVERLAP
        self.notices: list[str] = []
        self._tile = tile
        self._kept: dict[str, tuple[ImageRecord, TiledImage]] = {}
        self._looked_at: set[str] = set()

    def keep(self, wanted: Mapping[str, ImageRecord], model: Segmenter) -> None:
        """Open images and leave all others; what is open already, with the same pixels, stays so.

        Raises
        ------
        DataError
            If one cannot be read, or has other channels than the model.
        """
        kept = {}
        for name, record in wanted.items():
            before = self._kept.get(name)
            if before is None or before[0] != record or before[0].array is not record.array:
                before = record, self.open(record, model)
            kept[name] = before
        self._kept = kept

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def __getitem__(self, name: str) -> TiledImage:
        return self._kept[name][1]

    def open(self, record: ImageRecord, model: Segmenter) -> TiledImage:
        """Return the tiles of an image, which is not kept; raises as :meth:`keep`."""
        check_channels(model, record.channels)
        raw, statistics = ArraySource(record.open()), statistics_of(model.card)
        if record.name not in self._looked_at:
            self._looked_at.add(record.name)
            if clipped := other_range(record.name, raw, statistics):
                self.notices.append(clipped)
        return TiledImage(raw.normalised(statistics), self._tile, self.overlap, model.config.patch_size)
