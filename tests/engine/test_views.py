"""Averaging over views: a prediction that follows its tiles is not changed by it, and any prediction becomes symmetric."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_affmae.engine.segment import segment
from napari_affmae.engine.views import from_views
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig


def tiles(shape: tuple[int, ...] = (3, 2, 6, 8)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_what_follows_the_tile_is_not_changed(views: int) -> None:
    def squared(given: np.ndarray) -> np.ndarray:
        assert given.flags.c_contiguous
        return given**2

    np.testing.assert_allclose(from_views(squared, views)(tiles()), tiles() ** 2, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_tiles_of_a_single_row_or_column_are_turned_into_what_torch_takes(shape: tuple[int, int]) -> None:
    given = tiles((2, 1, *shape))
    averaged = from_views(lambda part: torch.from_numpy(part).numpy(), 8)(given)
    np.testing.assert_allclose(averaged, given, rtol=1e-6)


def test_eight_views_of_anything_are_symmetric() -> None:
    ramp = np.arange(64, dtype=np.float32).reshape(8, 8)
    averaged = from_views(lambda given: given * ramp, 8)
    square = tiles((1, 1, 8, 8))
    for move in (lambda t: t[..., ::-1], lambda t: t[..., ::-1, :], lambda t: t.swapaxes(-1, -2)):
        moved = averaged(np.ascontiguousarray(move(square)))
        np.testing.assert_allclose(moved, move(averaged(square)), rtol=1e-4, atol=1e-4)
    seen = []
    from_views(lambda given: seen.append(given.tobytes()) or given, 8)(square)
    assert len(set(seen)) == 8


def test_segmentation_takes_the_mean_of_its_views(micro: ModelConfig) -> None:
    torch.manual_seed(0)
    model = Segmenter(micro, 3)
    image = np.random.default_rng(1).normal(size=(32, 32)).astype(np.float32)
    plain = [segment(model, view, tile=32, device="cpu").probabilities for view in (image, image[:, ::-1])]
    both = segment(model, image, tile=32, device="cpu", views=2).probabilities
    np.testing.assert_allclose(both, (plain[0] + plain[1][..., ::-1]) / 2, atol=1e-5)
    assert not np.allclose(both, plain[0], atol=1e-5)
