"""A readout for a network that was finetuned on strokes.

Heads learn the borders of classes from labels on both sides of them. Strokes keep to the middle of things, so that heads
draw borders as they please; a readout, whose trees look at filter responses of single pixels, does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator

import torch

from ..card import Normalisation
from ..config import LiveConfig
from ..data.labels import LabelledSampler
from ..errors import DataError
from ..model.readout import Readout
from ..model.segmenter import Segmenter
from .described_paint import describe_pixels, relayed
from .fit_readout import STEPS, fit_readout
from .image_source import ArraySource
from .live_features import FeatureCache
from .live_paint import pixels_of
from .live_tiles import OVERLAP, TiledImage

STROKES = 0.1
"""Labels that cover less of their images are strokes."""

MOST_PIXELS = 20_000
"""Painted pixels that it is fitted to, as the network's features of each take kilobytes; more are thinned out."""

_LOOKING, _FITTING = 0.7, 0.2
"""Parts of the time that go into what the network describes, and into fitting committees; the rest goes into trees."""

LOOKED_AT = 4096
"""Pixels, painted or not, that say how frequent classes are found."""

CACHE_BYTES = LiveConfig().cache_bytes
"""Memory for what the network describes of tiles."""


def are_strokes(sampler: LabelledSampler) -> bool:
    """Return whether what is labelled is a small part of the images."""
    return int(sampler.class_pixels.sum()) < STROKES * sum(target.size for target in sampler.targets)


def stroke_readout(
    model: Segmenter, sampler: LabelledSampler, normalisation: Normalisation, tile: int, seed: int, device: torch.device
) -> Generator[float, None, Readout]:
    """Fit a readout to the labels that a network was trained on; yield the part of it that is done. The network stays as it is.

    The opinion of the heads does not count: they know these labels by heart. How often a class was painted does not, either:
    people paint what is rare as much as what is everywhere. An image that cannot be read any more is left out, and noted in the
    sampler's ``lost``.

    Raises
    ------
    DataError
        If the images that can still be read hold paint of less than two classes.
    """
    while True:
        try:
            return (yield from _fitted(model, sampler, normalisation, tile, seed, device))
        except _LostAnImage:
            continue


class _LostAnImage(Exception):
    """An image has vanished since training began."""


def _fitted(
    model: Segmenter, sampler: LabelledSampler, normalisation: Normalisation, tile: int, seed: int, device: torch.device
) -> Generator[float, None, Readout]:
    pixels = [pixels_of(str(index), target) for index, target in enumerate(sampler.targets)]
    painted = [part for part in pixels if len(part)]

    def opened(name: str) -> TiledImage:
        try:
            image = sampler.image(int(name))
        except DataError as error:
            sampler.lose(int(name), error)
            raise _LostAnImage from error
        source = ArraySource(image, normalisation)
        return TiledImage(source, tile, tile // OVERLAP, model.config.patch_size)

    features = FeatureCache(model, CACHE_BYTES)
    try:
        looking = describe_pixels(
            painted, model.num_classes, MOST_PIXELS, opened, features, device, elsewhere=LOOKED_AT, seed=seed
        )
        rows, _ = yield from relayed(looking, lambda done: _LOOKING * done)
        fitting = fit_readout(model, rows, seed, heads_trained=False, frequencies="found")
        steps = itertools.count()
        return (yield from relayed(fitting, lambda _: _LOOKING + _FITTING * next(steps) / STEPS))
    finally:
        features.release()
