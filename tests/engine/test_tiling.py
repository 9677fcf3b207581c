"""Tiling must not change what a function of single pixels gives, at any size, and must read no more than a tile at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_affmae.card import Normalisation
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine.image_source import ArraySource, ResampledSource, resampling
from napari_affmae.engine.tiling import FloatArray, cover, fitting_tile
from napari_affmae.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def pixelwise(tiles: FloatArray) -> FloatArray:
    """A head without a model: three outputs that depend on nothing but the pixel."""
    return np.stack([np.sin(tiles[:, 0]), tiles[:, 0] * tiles[:, -1], tiles[:, -1] - 0.3], axis=1)


@pytest.mark.parametrize(
    ("shape", "tile", "overlap", "align"),
    [
        ((64, 64), 32, 8, 8),
        ((65, 97), 32, 8, 8),
        ((33, 32), 32, 16, 8),
        ((31, 200), 32, 0, 8),
        ((7, 5), 32, 8, 8),
        ((1, 1), 32, 8, 8),
        ((1, 130), 16, 7, 1),
        ((101, 57), 16, 8, 16),
        ((90, 91), 24, 5, 4),
    ],
)
@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_tiled_is_the_whole(
    predict_tiled: Callable[..., FloatArray], shape: tuple[int, int], tile: int, overlap: int, align: int, batch: int
) -> None:
    image = RNG.normal(size=(*shape, 2)).astype(np.float32)
    whole = pixelwise(image.transpose(2, 0, 1)[None])[0]
    tiled = predict_tiled(pixelwise, image, tile=tile, overlap=overlap, batch=batch, align=align)
    np.testing.assert_allclose(tiled, whole, atol=1e-6, rtol=0)


def test_the_batch_size_changes_nothing(predict_tiled: Callable[..., FloatArray]) -> None:
    image = RNG.normal(size=(70, 50)).astype(np.float32)

    def shifted(tiles: FloatArray) -> FloatArray:
        return np.roll(tiles, 3, axis=-1)  # depends on where the tile lies

    one, many = (predict_tiled(shifted, image, tile=16, overlap=4, batch=batch) for batch in (1, 7))
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64, 100, 257])
@pytest.mark.parametrize("overlap", [0, 5, 16])
@pytest.mark.parametrize("align", [1, 8])
def test_axes_are_covered_by_aligned_overlapping_windows_that_sum_to_one(size: int, overlap: int, align: int) -> None:
    axis = cover(size, 32, overlap, align)
    assert all(start % align == 0 for start in axis.starts)
    assert axis.starts[0] == 0
    assert size <= axis.starts[-1] + axis.tile < size + align
    if size > 32:
        assert all(a + 32 - b >= overlap for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    total = np.zeros(axis.starts[-1] + axis.tile)
    for start, window in zip(axis.starts, axis.weights(overlap), strict=True):
        assert (window > 0).all()
        total[start : start + axis.tile] += window
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_windows_fade_towards_neighbours_but_not_towards_the_edge_of_the_image() -> None:
    first, middle, last = cover(80, 32, 8, 8).weights(8)
    assert first[0] == 1
    assert last[-1] == 1
    assert first[-1] < 0.05
    assert middle[0] < 0.05
    assert middle[16] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 30, "overlap": 0, "align": 8}, "multiple of 8 pixels for this model, got 30"),
        ({"tile": 32, "overlap": 17}, "from 0 to half the tile of 32 pixels, got 17"),
        ({"tile": 32, "overlap": -1}, "got -1"),
        ({"tile": 32, "overlap": 0, "batch": 0}, "batch must be at least 1"),
    ],
)
def test_settings_that_do_not_fit(predict_tiled: Callable[..., FloatArray], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        predict_tiled(pixelwise, np.zeros((64, 64)), **settings)


class Reluctant:
    """An array that is never read as a whole."""

    def __init__(self, array: np.ndarray, most: int) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self._most = most

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError("the whole image was read")

    def __getitem__(self, key: Any) -> np.ndarray:
        part: np.ndarray = self._array[key]
        assert part.size <= self._most, part.shape
        return part


def test_images_are_read_tile_by_tile(predict_tiled: Callable[..., FloatArray]) -> None:
    image = RNG.normal(size=(200, 150)).astype(np.float32)
    lazy = Reluctant(image, 32 * 32)
    tiled = predict_tiled(pixelwise, lazy, tile=32, overlap=8)
    np.testing.assert_allclose(tiled, pixelwise(image[None, None])[0], atol=1e-6)


def test_measuring_a_large_image_reads_windows_of_it() -> None:
    image = RNG.integers(0, 1000, (3000, 2000)).astype(np.uint16)
    assert ArraySource(Reluctant(image, 64 * 64)).sample(64).shape == (16 * 64 * 64, 1)
    measured = ArraySource(Reluctant(image, 256 * 256)).measure()
    assert measured.mean[0] == pytest.approx(499.5, abs=5)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 5), ()])
def test_images_of_other_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"expected an image \[H, W\] or \[H, W, C\]"):
        ArraySource(np.zeros(shape))


def test_an_image_without_pixels() -> None:
    with pytest.raises(DataError, match="no pixels"):
        ArraySource(np.zeros((0, 5)))


def test_nan_is_found_where_it_is(predict_tiled: Callable[..., FloatArray]) -> None:
    image = np.zeros((64, 64), np.float32)
    image[40, 3] = np.nan
    with pytest.raises(DataError, match=r"rows 32 to 64, columns 0 to 32 of the image: 1 of 1024 values are NaN or infinite"):
        predict_tiled(pixelwise, image, tile=32, overlap=0)


def test_a_constant_image_without_statistics_of_its_own() -> None:
    with pytest.raises(DataError, match="every pixel has the value 7"):
        ArraySource(np.full((20, 20), 7)).measure()


@pytest.mark.parametrize(("size", "new_size"), [(50, 100), (100, 50), (37, 91), (91, 37), (10, 10), (1, 5), (9, 1)])
def test_resampling_keeps_constants_and_straight_lines(size: int, new_size: int) -> None:
    first, weights = resampling(size, new_size, 0, new_size)
    assert first == 0
    assert weights.shape == (new_size, size)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    ramp = weights @ np.arange(size, dtype=np.float32)
    expected = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    inside = (expected >= size / new_size) & (expected <= size - 1 - size / new_size)
    np.testing.assert_allclose(ramp[inside], expected[inside], atol=0.02 * size / new_size + 1e-4)


def test_a_part_of_a_resampled_image_is_that_part_of_the_whole() -> None:
    image = RNG.normal(size=(60, 45, 2)).astype(np.float32)
    plain = Normalisation(low=(-9, -9), high=(9, 9), mean=(0, 0), std=(1, 1))
    for factors in ((0.5, 0.71), (1.3, 2.0)):
        source = ResampledSource(ArraySource(image, plain), factors)
        assert (source.height, source.width) == (round(60 * factors[0]), round(45 * factors[1]))
        whole = source.read(0, source.height, 0, source.width)
        np.testing.assert_allclose(source.read(5, 19, 3, 20), whole[:, 5:19, 3:20], atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "tile"),
    [
        (((512, 512), (256, 1000), (100, 100)), 256),  # the largest that fits into two of three
        (((256, 256),), 256),
        (((161, 167),), 160),
        (((30, 400), (40, 40)), 64),
        (((2000, 2000), (30, 30)), 64),
        (((2000, 2000),), 512),
    ],
)
def test_a_tile_that_is_chosen_fits_into_most_images(sizes, tile):
    images = collection_from_arrays({str(size): np.arange(size[0] * size[1]).reshape(size) for size in sizes})
    assert fitting_tile(512, images, 8) == tile
