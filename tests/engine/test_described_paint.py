"""What is known about painted pixels: each image is looked at once, and what comes out depends on the paint alone."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from napari_affmae.card import Normalisation
from napari_affmae.engine.described_paint import DescribedPaint, Rows, Superseded, describe_pixels, result_of
from napari_affmae.engine.image_source import ArraySource
from napari_affmae.engine.live_paint import PaintedPixels, are_chosen, pixels_of, spread
from napari_affmae.engine.live_tiles import TiledImage
from napari_affmae.model.description import Description

SIDE, TILE, CLASSES, MOST = 64, 32, 3, 240
STATISTICS = Normalisation(low=(0,), high=(255,), mean=(128,), std=(60,))
DEVICE = torch.device("cpu")


class Network:
    """Describes a tile by its own pixels, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        rng = np.random.default_rng(0)
        self.images = {name: rng.integers(0, 255, (SIDE, SIDE), np.uint8) for name in "abcde"}

    def opened(self, name: str) -> TiledImage:
        return TiledImage(ArraySource(self.images[name], STATISTICS), TILE, TILE // 8, 8)

    def __call__(self, pixels: np.ndarray, background: np.ndarray) -> Description:
        self.asked += 1
        values = torch.from_numpy(pixels)[None]
        patches = values.unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(-1, -2))[:, 0, :, :, None]
        return Description(values.expand(1, 2, TILE, TILE), patches, values.expand(1, CLASSES, TILE, TILE))


def paint(name: str, seed: int, share: float = 0.2) -> PaintedPixels:
    rng = np.random.default_rng(seed)
    return pixels_of(name, np.where(rng.random((SIDE, SIDE)) < share, rng.integers(0, CLASSES, (SIDE, SIDE)), -1))


def same(one: Rows, other: Rows) -> bool:
    names = ("filters", "context", "logits", "classes", "stands_for", "cells", "patches")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def look(network: Network) -> Callable[..., Rows]:
    def rows(known: DescribedPaint, *painted: PaintedPixels) -> Rows:
        return result_of(known.rows(painted, MOST, network.opened, network))

    return rows


def test_paint_on_one_image_asks_for_no_new_look_at_the_others(network: Network, look: Callable[..., Rows]) -> None:
    known = DescribedPaint(CLASSES, DEVICE)
    first, other = paint("a", 0), paint("b", 1)
    look(known, first, other)
    before = network.asked
    look(known, paint("a", 2), other)
    tiles = len(network.opened("a").tiles(network.opened("a").whole))
    assert network.asked - before == tiles
    look(known, paint("a", 2), other)


def test_the_same_paint_gives_the_same_rows_whatever_came_before(look: Callable[..., Rows]) -> None:
    images = [paint(name, number) for number, name in enumerate("abcde")]
    grown = DescribedPaint(CLASSES, DEVICE)
    for count in (1, 2, 3, 5):
        look(grown, *images[:count])
    fresh = look(DescribedPaint(CLASSES, DEVICE), *images)
    assert same(look(grown, *images), fresh)
    # And back: with fewer images each may show more of its pixels again.
    assert same(look(grown, *images[:2]), look(DescribedPaint(CLASSES, DEVICE), *images[:2]))


def test_of_one_image_it_is_what_a_plain_look_finds(network: Network, look: Callable[..., Rows]) -> None:
    image = paint("a", 0)
    plain, pixels = result_of(describe_pixels([image], CLASSES, MOST, network.opened, network, DEVICE))
    assert same(look(DescribedPaint(CLASSES, DEVICE), image), plain)
    assert len(pixels) == MOST
    values = ArraySource(network.images["a"], STATISTICS).read(0, SIDE, 0, SIDE)[0]
    np.testing.assert_allclose(plain.filters[:, 0], values[pixels.rows, pixels.columns])
    assert pixels.classes.tolist() == plain.classes.tolist()


def test_chosen_pixels_stand_for_all_paint_of_all_images(look: Callable[..., Rows]) -> None:
    images = [paint("a", 0, 0.5), paint("b", 1, 0.02), paint("c", 2, 0.2)]
    rows = look(DescribedPaint(CLASSES, DEVICE), *images)
    painted = sum(np.bincount(image.classes, minlength=CLASSES) for image in images)
    assert len(rows.classes) <= MOST
    assert torch.bincount(rows.classes, rows.stands_for).tolist() == pytest.approx(painted.tolist())


def test_fewer_pixels_are_always_among_more() -> None:
    image = paint("a", 0, 0.5)
    some = spread([image], CLASSES, 100)[0]
    more = spread([image], CLASSES, 400)[0]
    again = more.take(are_chosen([more], CLASSES, 100))
    assert sorted(zip(again.rows, again.columns, strict=True)) == sorted(zip(some.rows, some.columns, strict=True))


def test_who_is_not_waited_for_stops_between_two_tiles_and_goes_on_where_it_was(network: Network) -> None:
    known = DescribedPaint(CLASSES, DEVICE)
    images = [paint("a", 0), paint("b", 1)]
    tiles = len(network.opened("a").tiles(network.opened("a").whole))
    with pytest.raises(Superseded):
        result_of(known.rows(images, MOST, network.opened, network), lambda: network.asked > tiles)
    assert network.asked == tiles + 1, "the first image, and one tile of the second"
    rows = result_of(known.rows(images, MOST, network.opened, network))
    assert network.asked == 2 * tiles + 1
    assert same(rows, result_of(DescribedPaint(CLASSES, DEVICE).rows(images, MOST, network.opened, network)))


def test_one_image_is_held_at_a_time(network: Network) -> None:
    held: weakref.WeakSet[TiledImage] = weakref.WeakSet()
    most = 0

    def opened(name: str) -> TiledImage:
        image = network.opened(name)
        held.add(image)
        return image

    def describe(pixels: np.ndarray, background: np.ndarray) -> Description:
        nonlocal most
        most = max(most, len(held))
        return network(pixels, background)

    asked: list[str] = []

    def counted(name: str) -> TiledImage:
        asked.append(name)
        return opened(name)

    painted = [paint(name, seed) for seed, name in enumerate("abcde")]
    result_of(describe_pixels(painted[:1], CLASSES, MOST, counted, describe, DEVICE))
    assert asked == ["a"], "a single image is read once"
    result_of(describe_pixels(painted, CLASSES, MOST, opened, describe, DEVICE))
    assert most <= 2, "the next one is opened before the last one is let go"
