"""Painted pixels as the network describes them, for a readout to be fitted to.

Describing a tile takes as long as predicting it, and there may be many with paint: what was found out about an image is kept
for as long as its paint and the network stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..model.description import Description
from .live_paint import PaintedPixels, are_chosen, spread
from .live_tiles import TiledImage

Result = TypeVar("Result")
"""What a part of the work ends with."""

Said = TypeVar("Said")

_CELL = 48
"""Paint is dealt out to the members of a readout by squares of so many pixels, about a stroke."""

_PATCHES = 4096
"""Patches that say in which directions features vary."""

_TILES = 64
"""Tiles that they are taken from, at most."""

Opened = Callable[[str], TiledImage]
Describe = Callable[..., Description]


class Superseded(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True)
class Rows:
    """Painted pixels as the network describes them.

    Attributes
    ----------
    filters, context, logits
        As :meth:`Description.at <napari_affmae.model.description.Description.at>` returns them.
    classes
        int64 ``[n]``.
    stands_for
        float32 ``[n]``: painted pixels of its class that each stands for, 1 unless there were too many.
    cells
        int64 ``[n]``: number of the member whose network leaves the pixel out.
    patches
        float32 ``[p, D]``: features of up to 4096 patches of the tiles that the pixels are in.
    elsewhere
        Filters, context and logits of pixels anywhere in these tiles, if they were asked for.
    """

    filters: Tensor
    context: Tensor
    logits: Tensor
    classes: Tensor
    stands_for: Tensor
    cells: Tensor
    patches: Tensor
    elsewhere: tuple[Tensor, Tensor, Tensor] | None = None

    def take(self, chosen: Tensor) -> Rows:
        """Return some of the pixels."""
        names = ("filters", "context", "logits", "classes", "stands_for", "cells")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def describe_pixels(
    painted: Sequence[PaintedPixels],
    num_classes: int,
    most: int,
    opened: Opened,
    describe: Describe,
    device: torch.device,
    *,
    elsewhere: int = 0,
    seed: int = 0,
) -> Generator[float, None, tuple[Rows, PaintedPixels]]:
    """Look painted pixels up, at most ``most`` of them, each in the tile in which it lies farthest from the edges.

    More are thinned out, see :func:`~napari_affmae.engine.live_paint.spread`; ``opened`` finds images by name. About
    ``elsewhere`` random pixels of the tiles are looked at, too. After each tile, the part of them that is done is yielded.

    Returns
    -------
    rows, pixels
        What was found out, and of which pixels, in the same order, as if they were all of one image.
    """
    pixels = spread(painted, num_classes, most)
    opened = lru_cache(maxsize=1)(opened)  # one at a time: all of a folder may be more than memory holds
    dealt = [list(opened(part.image).by_tile(part.rows, part.columns)) for part in pixels]
    total = sum(map(len, dealt))
    every = -(-total // _TILES)
    sampled = -(-total // every)
    generator = torch.Generator().manual_seed(seed)
    parts, order, features, others = [], [], [], []
    seen = 0
    for part, places in zip(pixels, dealt, strict=True):
        image = opened(part.image)
        for tile, chosen in places:
            description = describe(image.read(*tile), image.background)
            inside = [
                torch.from_numpy(axis[chosen] - start).to(device)
                for axis, start in zip((part.rows, part.columns), tile, strict=True)
            ]
            parts.append(description.at(inside[0], inside[1]))
            order.append(part.take(chosen))
            if seen % every == 0:
                table = description.context[0].flatten(0, 1)
                features.append(table[:: -(-len(table) * sampled // _PATCHES)].clone())
                others.append(_anywhere(description, -(-elsewhere // sampled), generator))
            seen += 1
            yield seen / total
    filters, context, logits = (torch.cat(values) for values in zip(*parts, strict=True))
    together = PaintedPixels(
        painted[0].image,
        *(np.concatenate([getattr(part, name) for part in order]) for name in ("rows", "columns", "classes")),
    )
    classes = torch.from_numpy(together.classes).to(device)
    cells = torch.from_numpy(together.rows // _CELL % 2 * 2 + together.columns // _CELL % 2).to(device)
    shares = _stands_for(painted, pixels, num_classes).to(device)
    looked_at = [torch.cat(values) for values in zip(*others, strict=True)]
    rows = Rows(
        filters,
        context,
        logits,
        classes,
        shares[classes],
        cells,
        torch.cat(features),
        (looked_at[0], looked_at[1], looked_at[2]) if elsewhere else None,
    )
    return rows, together


class DescribedPaint:
    """Remembers what was found out about painted pixels, image by image.

    Each image has a part of the pixels that may be looked at, which is halved when there are twice as many images. Which of its
    pixels they are depends on its own paint alone, so that paint on one image never asks for a new look at another.

    Parameters
    ----------
    num_classes
        K.
    device
        Of the network.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._num_classes = num_classes
        self._device = device
        self._known: dict[str, _Image] = {}

    def rows(
        self, painted: Sequence[PaintedPixels], most: int, opened: Opened, describe: Describe
    ) -> Generator[float, None, Rows]:
        """Return what :func:`describe_pixels` does, but of tiles with paint that is new alone; the same paint gives the same.

        Paint that has not changed is known by being the very object that it was before. Something is yielded after each tile.
        """
        halved = (len(painted) - 1).bit_length()
        for part in painted:
            yield from self.look(part, most, halved, opened, describe)
        self._known = {part.image: self._known[part.image] for part in painted}
        return _joined(list(self._known.values()), self._num_classes)

    def look(
        self, part: PaintedPixels, most: int, halved: int, opened: Opened, describe: Describe
    ) -> Generator[float, None, None]:
        """Look at the paint of one image, where that was not done before; ``most`` was halved so many times."""
        known = self._known.get(part.image)
        if known is None or known.painted is not part or known.halved > halved:
            found, pixels = yield from describe_pixels([part], self._num_classes, most, opened, describe, self._device)
            known = _Image(part, pixels, found, 0)
        self._known[part.image] = known.thinned(self._num_classes, most, halved)


@dataclass(frozen=True, eq=False)
class _Image:
    """What is known about the paint of one image: which pixels of it were looked at, in the order of their rows."""

    painted: PaintedPixels
    pixels: PaintedPixels
    rows: Rows
    halved: int

    def thinned(self, num_classes: int, most: int, halved: int) -> _Image:
        if halved == self.halved:
            return self
        chosen = are_chosen([self.pixels], num_classes, most >> halved)
        rows = self.rows.take(torch.from_numpy(np.flatnonzero(chosen)).to(self.rows.classes.device))
        rows = replace(rows, patches=rows.patches[:: 1 << (halved - self.halved)].clone())
        return _Image(self.painted, self.pixels.take(chosen), rows, halved)


def _joined(images: Sequence[_Image], num_classes: int) -> Rows:
    if len(images) == 1:
        return images[0].rows
    names = ("filters", "context", "logits", "classes", "cells", "patches")
    filters, context, logits, classes, cells, patches = (
        torch.cat([getattr(image.rows, name) for image in images]) for name in names
    )
    shares = _stands_for([image.painted for image in images], [image.pixels for image in images], num_classes)
    return Rows(filters, context, logits, classes, shares.to(classes.device)[classes], cells, patches)


def _anywhere(description: Description, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    sides = description.filters.shape[-2:]
    rows, columns = (torch.randint(side, (count,), generator=generator).to(description.filters.device) for side in sides)
    return description.at(rows, columns)


def _stands_for(painted: Sequence[PaintedPixels], chosen: Sequence[PaintedPixels], num_classes: int) -> Tensor:
    """Return for how many painted pixels a chosen one of each class stands, float32 ``[K]``."""
    counts = [sum(np.bincount(part.classes, minlength=num_classes) for part in some) for some in (painted, chosen)]
    return torch.from_numpy(counts[0] / np.maximum(counts[1], 1)).float()


def relayed(work: Generator[float, None, Result], say: Callable[[float], Said]) -> Generator[Said, None, Result]:
    """Do what such work does, and say otherwise what it yields."""
    while True:
        try:
            told = next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield say(told)


def result_of(work: Generator[Any, None, Result], stale: Callable[[], bool] | None = None) -> Result:
    """Do such work at once; raise :class:`Superseded` as soon as it is stale."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        if stale is not None and stale():
            raise Superseded
