"""How images fit the network that is to see them: their pixel size, and the range of their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..card import ModelCard, Normalisation, PixelSize
from ..data.normalisation import apply, clipped_part
from ..data.parts import blocks
from ..data.pixel_size import common_size, is_other_scale, scale_factors
from ..data.records import ImageRecord
from ..errors import DataError
from .image_source import ArraySource

_MOST_CLIPPED = 0.5
"""Part of the pixels that may lie outside of the range of the statistics: images of the same kind have a few in a thousand."""

_WINDOW = 64
"""Side of the windows that are looked at, so that little is read of an image that is read part by part."""


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


def other_range(name: str, image: ArraySource, normalisation: Normalisation) -> str | None:
    """Say so if most values of an image, raw, lie outside of the range that the network was trained on."""
    part, channel = clipped_part(image.sample(_WINDOW), normalisation)
    if part <= _MOST_CLIPPED:
        return None
    where = f" in channel {channel}" if image.channels > 1 else ""
    low, high = normalisation.low[channel], normalisation.high[channel]
    return (
        f"{100 * part:.0f} % of the pixels of {name}{where} lie outside of the range of values that the network was trained on "
        f"({low:.5g}–{high:.5g}): it sees them as black or white; give images of the same range, or train a network anew"
    )


def check_range(images: Iterable[tuple[str, Any]], normalisation: Normalisation) -> str | None:
    """Say which is the first of labelled images ``[H, W, C]`` that are largely out of range, if any; only of these all is read.

    Raises
    ------
    DataError
        If nothing but one value is left of each of them.
    """
    first, seen = None, False
    for name, pixels in images:
        notice = other_range(name, ArraySource(pixels), normalisation)
        first = first or notice
        seen = seen or notice is None or _has_contrast(pixels, normalisation)
    if first is not None and not seen:
        raise DataError(f"the network sees nothing of the labelled images: {first}")
    return first


def _has_contrast(image: Any, normalisation: Normalisation) -> bool:
    """Whether more than one value is left of a channel of ``[H, W, C]``; what tells is all that is read."""
    first = apply(np.asarray(image[:1, :1]), normalisation)
    return any(bool((apply(np.asarray(block), normalisation) != first).any()) for block in blocks(image))
