"""What is accepted is what was predicted, and never where something is painted."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.segmentation import flood

from napari_affmae.engine.accept import accept_inside, accept_region


@pytest.fixture
def prediction() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, (20, 31)).astype(np.uint8)


@pytest.fixture
def paint() -> np.ndarray:
    return np.random.default_rng(1).choice(4, (20, 31), p=(0.7, 0.1, 0.1, 0.1)).astype(np.uint8)


def test_the_region_is_connected_by_edges_and_spares_paint(prediction: np.ndarray, paint: np.ndarray) -> None:
    for row in range(20):
        for column in range(0, 31, 3):
            found = accept_region(prediction, paint, (row, column), {1, 2})
            class_id = prediction[row, column]
            expected = flood(prediction, (row, column), connectivity=1) & (paint == 0) & (class_id > 0)
            np.testing.assert_array_equal(found, expected * class_id)
            assert found.dtype == paint.dtype


def test_a_class_that_cannot_be_painted_gives_nothing(prediction: np.ndarray, paint: np.ndarray) -> None:
    row, column = np.argwhere(prediction == 2)[0]
    assert not accept_region(prediction, paint, (row, column), {1}).any()
    assert not (accept_inside(prediction, paint, [(-1, -1), (-1, 40), (30, 40), (30, -1)], {1}) == 2).any()


def test_inside_an_outline(prediction: np.ndarray, paint: np.ndarray) -> None:
    found = accept_inside(prediction, paint, [(2.5, 3.5), (2.5, 20.5), (12.5, 20.5), (12.5, 3.5)], {0, 1, 2})
    expected = np.zeros_like(prediction)
    expected[3:13, 4:21] = prediction[3:13, 4:21]
    np.testing.assert_array_equal(found, np.where(paint == 0, expected, 0))


def test_an_outline_that_leaves_the_image(prediction: np.ndarray, paint: np.ndarray) -> None:
    found = accept_inside(prediction, paint, [(-50, -50), (-50, 80), (80, 80), (80, -50)], {1, 2})
    np.testing.assert_array_equal(found, np.where(paint == 0, prediction, 0))
