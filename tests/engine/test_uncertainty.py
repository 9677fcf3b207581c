"""Uncertainty is 0 for one class, 1 for all alike, and its means do not depend on how the rows came."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_affmae.config import LiveConfig
from napari_affmae.control import LiveControl
from napari_affmae.data.classes import default_classes
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine.image_source import ArraySource
from napari_affmae.engine.live import LiveSession
from napari_affmae.engine.live_request import LiveRequest
from napari_affmae.engine.live_tiles import Canvas, Region, TiledImage
from napari_affmae.engine.tiling import FloatArray
from napari_affmae.engine.uncertainty import CellMeans, cell_means, uncertainty
from napari_affmae.events import LivePrediction
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_certain_is_0_and_no_idea_is_1(classes: int) -> None:
    one_hot = np.zeros((classes, 300, 5), np.float32)
    one_hot[np.arange(300) % classes, np.arange(300)] = 1
    assert (uncertainty(one_hot) == 0).all()
    uniform = np.full((classes, 300, 5), 1 / classes, np.float32)
    np.testing.assert_allclose(uncertainty(uniform), 1, atol=1e-6)
    assert uncertainty(uniform * np.float32(1 + 1e-6)).max() <= 1


def test_it_is_the_entropy_of_each_pixel_whatever_the_order_of_classes() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet((0.5, 1, 2), (290, 7)).transpose(2, 0, 1).astype(np.float32)
    values = uncertainty(probabilities)
    assert values.dtype == np.float32
    expected = -(probabilities * np.log(probabilities)).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_allclose(uncertainty(probabilities[::-1]), values, atol=1e-6)
    half = uncertainty(np.array([0.5, 0.5, 0.0], np.float32)[:, None, None])
    assert half[0, 0] == pytest.approx(np.log(2) / np.log(3), abs=1e-6)


@pytest.mark.parametrize("rows", [1, 5, 16, 700])
def test_means_of_rows_are_those_of_the_whole(rows: int) -> None:
    values = np.random.default_rng(1).random((611, 45), np.float32)
    means = CellMeans(*values.shape, 16)
    for top in range(0, len(values), rows):
        means.add(top, values[top : top + rows])
    np.testing.assert_array_equal(means.means, cell_means(values, 16))
    assert means.means.shape == (39, 3)
    assert means.means[1, 0] == pytest.approx(values[16:32, :16].mean(), rel=1e-5)
    assert means.means[38, 2] == pytest.approx(values[608:, 32:].mean(), rel=1e-5)


def test_of_a_live_canvas_it_is_that_of_the_blended_tiles(predict_tiled: Callable[..., FloatArray]) -> None:
    image = np.random.default_rng(2).random((90, 70), np.float32)

    def predict(tiles: np.ndarray) -> np.ndarray:
        return np.concatenate([tiles, 1 - tiles], axis=1).astype(np.float32)

    tiled = TiledImage(ArraySource(image), 32, 4, 4)
    canvas = Canvas(tiled, tiled.whole)
    for place in tiled.tiles(tiled.whole):
        canvas.add(place, predict(tiled.read(*place)[None])[0])
    whole = predict_tiled(predict, image, tile=32, overlap=8, align=4)
    part = Region(10, 20, 60, 70)
    np.testing.assert_allclose(canvas.uncertainty(part), uncertainty(whole)[10:60, 20:70], atol=1e-5)
    np.testing.assert_allclose(uncertainty(whole), uncertainty(predict(image[None, None])[0]), atol=1e-5)


def test_live_predictions_carry_it(micro: ModelConfig, blobs: tuple[np.ndarray, np.ndarray]) -> None:
    images = collection_from_arrays({"one": blobs[0]})
    session = LiveSession(Segmenter(micro, 2), default_classes((1, 2)), images, LiveConfig(tile=32, device="cpu"))
    paint = np.zeros_like(blobs[1])
    paint[8:24, 8:40] = blobs[1][8:24, 8:40] + 1
    request = LiveRequest(1, [LabelledImage(images.records[0], paint)], images.records[0])
    parts = [event for event in session.round(request, LiveControl()) if isinstance(event, LivePrediction)]
    assert parts
    for part in parts:
        assert part.uncertainty is not None
        assert part.uncertainty.shape == part.labels.shape
        assert 0 <= part.uncertainty.min() < part.uncertainty.max() <= 1


def test_what_is_not_known_does_not_count() -> None:
    values = np.full((8, 8), 0.25, np.float32)
    values[:4] = np.nan
    values[4:6, 4:] = np.nan
    with np.errstate(all="raise", invalid="ignore"):
        means = cell_means(values, 4)
    np.testing.assert_array_equal(np.isnan(means), [[True, True], [False, False]])
    assert means[1, 1] == 0.25
