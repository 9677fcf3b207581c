"""How labelled images fit the network that is to learn from them."""

from __future__ import annotations

from collections.abc import Sequence

from ..card import ModelCard, PixelSize
from ..data.pixel_size import common_size, is_other_scale, scale_factors
from ..data.records import ImageRecord


def at_scale_of(card: ModelCard, records: Sequence[ImageRecord]) -> ModelCard:
    """Return a card with the pixel size of the labelled images where those that state one agree: training does not rescale."""
    sizes = [record.pixel_size for record in records if record.pixel_size is not None]
    return card.replace(pixel_size=common_size(sizes) or card.pixel_size)


def other_scale(before: PixelSize | None, now: PixelSize | None, records: Sequence[ImageRecord]) -> str | None:
    """Say where labelled images are of another scale than the network knew before, or is going to segment at."""
    if now is None:
        return None
    for record in records:
        size = record.pixel_size
        if size is not None and is_other_scale(scale_factors(size, now)):
            return (
                f"{record.name} has {size.in_words()} per pixel, but the network was trained at {now.in_words()}: it learns "
                f"from each image as it is, and segments at {now.in_words()}; give labelled images of one pixel size"
            )
    if before is not None and is_other_scale(scale_factors(now, before)):
        return (
            f"the labelled images have {now.in_words()} per pixel, but the network was trained at {before.in_words()} before: "
            f"from now on it segments at {now.in_words()}; pretrain on images of this scale for better results"
        )
    return None
