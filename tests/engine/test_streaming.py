"""A prediction that leaves row by row is the whole one, and never holds more rows than a batch of tiles spans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_affmae.engine.image_source import ArraySource, resampling
from napari_affmae.engine.scaled_rows import ScaledRows
from napari_affmae.engine.tiling import FloatArray, TiledPrediction

RNG = np.random.default_rng(0)


def twice(tiles: FloatArray) -> FloatArray:
    return np.concatenate([tiles, np.roll(tiles, 2, axis=-1)], axis=1)  # depends on where the tile lies


class Collector:
    """Checks that rows come once and in order, and keeps them."""

    def __init__(self) -> None:
        self.parts: list[FloatArray] = []
        self.rows = 0

    def __call__(self, top: int, rows: FloatArray) -> None:
        assert top == self.rows
        self.rows += rows.shape[1]
        self.parts.append(rows.copy())

    @property
    def values(self) -> FloatArray:
        return np.concatenate(self.parts, axis=1)


@pytest.mark.parametrize("shape", [(64, 40), (131, 97), (20, 20), (1, 1)])
@pytest.mark.parametrize("batch", [1, 2, 50])
def test_rows_make_up_the_whole(predict_tiled: Callable[..., FloatArray], shape: tuple[int, int], batch: int) -> None:
    image = RNG.normal(size=shape).astype(np.float32)
    collector = Collector()
    prediction = TiledPrediction(twice, ArraySource(image), tile=32, overlap=8, batch=batch, align=4, into=collector)
    assert [*prediction.run()][-1] == prediction.tiles
    assert collector.rows == shape[0]
    expected = predict_tiled(twice, image, tile=32, overlap=8, batch=batch, align=4)
    np.testing.assert_array_equal(collector.values, expected)


def test_rows_leave_as_soon_as_no_tile_below_reaches_them() -> None:
    collector = Collector()
    prediction = TiledPrediction(twice, ArraySource(np.ones((400, 64))), tile=32, overlap=8, batch=1, into=collector)
    across = len([None for top, *_ in prediction._tiles if top == 0])
    for done in prediction.run():
        finished_rows_of_tiles = done // across
        assert collector.rows >= min(400, finished_rows_of_tiles * 23 - 8)
    assert max(part.shape[1] for part in collector.parts) <= 32


@pytest.mark.parametrize(
    ("small", "large"), [((40, 30), (80, 61)), ((40, 30), (17, 30)), ((9, 7), (700, 600)), ((3, 3), (3, 3))]
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_scaled_rows_are_the_scaled_whole(small: tuple[int, int], large: tuple[int, int], step: int) -> None:
    values = RNG.random((2, *small), np.float32)
    collector = Collector()
    scaled = ScaledRows(small, large, collector)
    for top in range(0, small[0], step):
        scaled(top, values[:, top : top + step])
    _, rows = resampling(small[0], large[0], 0, large[0])
    _, columns = resampling(small[1], large[1], 0, large[1])
    np.testing.assert_allclose(collector.values, rows @ values @ columns.T, atol=1e-5)
