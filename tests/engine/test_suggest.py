"""Suggested places are uncertain, not painted yet, apart from each other, and always the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from napari_affmae.card import PixelSize
from napari_affmae.control import JobControl
from napari_affmae.data.predicted_image import PredictedImage
from napari_affmae.data.records import ImageRecord
from napari_affmae.data.suggestions import Suggestions
from napari_affmae.engine.box_features import box_features
from napari_affmae.engine.live_tiles import Region
from napari_affmae.engine.places import choose, evenly, painted_cells, peaks, unlikeness
from napari_affmae.engine.suggest import suggest
from napari_affmae.engine.uncertainty import cell_means
from napari_affmae.errors import DataError
from napari_affmae.events import Done, Progress
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

CELL = 16


@pytest.fixture(params=[MaskedAutoencoder, Segmenter])
def model(request: pytest.FixtureRequest, micro: ModelConfig) -> MaskedAutoencoder | Segmenter:
    torch.manual_seed(0)
    network = MaskedAutoencoder(micro)
    if request.param is Segmenter:
        network = Segmenter.from_pretrained(network, 2)
    network.card = network.card.replace(tile=32)
    return network


def image(seed: int, height: int = 90, width: int = 70, **fields: object) -> PredictedImage:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8)
    record = ImageRecord(f"image {seed}", height, width, 1, "uint8", None, array=pixels)
    values = np.random.default_rng(seed + 100).random((height, width), np.float32)
    return PredictedImage(record, **{"uncertainty": values, **fields})


def places(model: object, images: Sequence[PredictedImage], **options: object) -> Suggestions:
    *_, done = suggest(model, images, device="cpu", **options)  # type: ignore[arg-type]
    assert isinstance(done, Done)
    assert isinstance(done.result, Suggestions)
    return done.result


def test_the_same_input_gives_the_same_places_and_they_avoid_paint(model: MaskedAutoencoder | Segmenter) -> None:
    paint = np.zeros((90, 70), np.uint8)
    paint[5:60, 20] = 1
    paint[70, 3:50] = 2
    # The network is least sure of what is painted: it would be suggested first.
    values = np.random.default_rng(0).random((90, 70), np.float32) / 2
    values[:, 16:32] += 0.4
    images = [image(0, paint=paint, uncertainty=values), image(1)]
    # More than there are candidates: whatever is not ruled out is taken.
    found = places(model, images, count=40)
    assert found == places(model, images, count=40)
    assert found.side == CELL
    assert 10 < len(found.places) < 40
    assert places(model, images, count=3).places == found.places[:3]
    assert {place.image for place in found.places} == {"image 0", "image 1"}
    covered = painted_cells(paint, CELL)
    for place in found.places:
        assert 0 < place.uncertainty <= 1
        assert 0 <= place.unlike <= 1
        assert place.score == pytest.approx(place.uncertainty * place.unlike, rel=1e-5)
        assert 0 <= place.row < 90
        assert 0 <= place.column < 70
        if place.image == "image 0":
            assert not covered[place.row // CELL, place.column // CELL]
    assert [place.score for place in found.places] == sorted((place.score for place in found.places), reverse=True)


def test_places_are_spread(model: MaskedAutoencoder | Segmenter) -> None:
    values = np.zeros((90, 70), np.float32)
    values[:40, :40] = 0.9
    found = places(model, [image(0, uncertainty=values)], count=20)
    at = np.array([(place.row, place.column) for place in found.places])
    apart = np.abs(at[:, None] - at[None]).max(axis=-1)[np.triu_indices(len(at), 1)]
    assert 2 <= len(at) <= 4
    assert apart.min() >= CELL + CELL // 2


def test_a_repeated_sight_is_suggested_once_before_another_one() -> None:
    """Three candidates look alike and are a little more uncertain than the fourth: it comes second all the same."""
    features = np.array([[1, 0, 0], [1, 0.01, 0], [1, 0, 0.01], [0, 1, 0]], np.float32)
    order = [index for index, _, _ in choose([0.9, 0.85, 0.84, 0.6], features, np.empty((0, 3), np.float32), 4)]
    assert order[:2] == [0, 3]


def test_what_looks_like_paint_comes_last() -> None:
    features = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    chosen = choose([0.9, 0.5, 0.5], features, features[:1], 3)
    assert chosen[-1][0] == 0
    # The root of what float32 leaves of 1 - 1.
    assert chosen[-1][1] == pytest.approx(0, abs=5e-4)
    assert chosen[0][1] > 0.5


def test_without_paint_the_most_uncertain_place_comes_first(model: MaskedAutoencoder | Segmenter) -> None:
    values = np.full((90, 70), 0.3, np.float32)
    values[48:64, 16:32] = 0.8
    first = places(model, [image(0, uncertainty=values)], count=3).places[0]
    assert (first.row, first.column) == (56, 24)
    assert first.uncertainty == pytest.approx(0.8)
    assert first.unlike == 1


def test_certain_and_unknown_places_are_left_out(model: MaskedAutoencoder | Segmenter) -> None:
    assert places(model, [image(0, uncertainty=np.zeros((90, 70), np.float32))]).places == ()
    values = np.full((90, 70), np.nan, np.float32)
    values[:CELL, :CELL] = 0.5
    [only] = places(model, [image(0, uncertainty=values)]).places
    assert (only.row, only.column) == (8, 8)


def test_means_over_squares_do_instead_of_pixels(model: MaskedAutoencoder | Segmenter) -> None:
    fine = image(3, 96, 80)
    coarse = image(3, 96, 80, uncertainty=cell_means(fine.uncertainty, 8), step=8)
    exact, rough = places(model, [fine]), places(model, [coarse])
    assert [(one.row, one.column) for one in exact.places] == [(one.row, one.column) for one in rough.places]
    np.testing.assert_allclose([one.score for one in exact.places], [one.score for one in rough.places], rtol=1e-5)


def test_an_image_without_a_prediction_only_lends_its_paint(model: MaskedAutoencoder | Segmenter) -> None:
    paint = np.zeros((90, 70), np.uint8)
    paint[10:20, 10:20] = 1
    painted = image(1, uncertainty=None, paint=paint)
    found = places(model, [image(0), painted])
    assert {place.image for place in found.places} == {"image 0"}
    assert found.places[0].unlike < 1
    with pytest.raises(DataError, match="segment an image first"):
        places(model, [painted])


def test_features_of_a_box_do_not_depend_on_what_else_is_asked_for(model: MaskedAutoencoder | Segmenter) -> None:
    model.eval()
    record = image(0).record
    boxes = [Region(0, 0, 16, 16), Region(40, 24, 41, 25), Region(80, 64, 90, 70)]
    together = dict(box_features(model, torch.device("cpu"), record, boxes, rescale=True))
    assert sorted(together) == [0, 1, 2]
    for number, box in enumerate(boxes):
        [(_, alone)] = box_features(model, torch.device("cpu"), record, [box], rescale=True)
        np.testing.assert_array_equal(alone, together[number])
        assert alone.shape == (16,)


def test_features_are_those_of_the_whole_image_where_one_tile_holds_it(model: MaskedAutoencoder | Segmenter) -> None:
    model.eval()
    model.card = model.card.replace(tile=64)
    record = image(0, 64, 64).record
    [(_, seen)] = box_features(model, torch.device("cpu"), record, [Region(16, 32, 32, 48)], rescale=True)
    from napari_affmae.engine.image_source import ArraySource

    raw = ArraySource(record.read())
    pixels = raw.normalised(raw.measure()).read(0, 64, 0, 64)
    with torch.inference_mode():
        features = model.features(torch.from_numpy(pixels)[None])
    grid = features.decoder_features[-1][0].view(16, 16, -1).numpy()
    np.testing.assert_allclose(seen, grid[4:8, 8:12].mean(axis=(0, 1)), atol=1e-5)


def test_another_pixel_size_is_looked_at_in_the_models(model: MaskedAutoencoder | Segmenter) -> None:
    model.card = model.card.replace(pixel_size=PixelSize(y=2, x=2, unit="nanometer"))
    one = image(0)
    record = ImageRecord("fine", 90, 70, 1, "uint8", PixelSize(y=1, x=1, unit="nanometer"), array=one.record.array)
    found = places(model, [PredictedImage(record, one.uncertainty)], count=4)
    assert len(found.places) == 4
    same = places(model, [PredictedImage(record, one.uncertainty)], count=4, rescale=False)
    assert found.places[0].row == same.places[0].row, "nothing is painted: the most uncertain one"
    assert found != same


def test_stop_ends_it_at_once(model: MaskedAutoencoder | Segmenter) -> None:
    control = JobControl()
    heard = []
    for event in suggest(model, [image(0)], device="cpu", control=control):
        heard.append(event)
        if isinstance(event, Progress):
            control.stop()
    assert sum(isinstance(event, Progress) for event in heard) == 1
    assert isinstance(heard[-1], Done)
    assert heard[-1].stopped
    assert heard[-1].result is None


def test_peaks_are_no_neighbours_and_fall() -> None:
    cells = np.random.default_rng(0).random((23, 17), np.float32)
    found = peaks(cells, 40)
    assert found[0] == divmod(int(cells.argmax()), 17)
    values = [cells[at] for at in found]
    assert values == sorted(values, reverse=True)
    at = np.array(found)
    assert np.abs(at[:, None] - at[None]).max(axis=-1)[np.triu_indices(len(at), 1)].min() >= 2


def test_painted_cells_are_those_that_hold_paint() -> None:
    paint = np.zeros((33, 20), np.uint8)
    paint[32, 19] = 4
    paint[0, 8] = 1
    expected = np.zeros((5, 3), bool)
    expected[4, 2] = expected[0, 1] = True
    np.testing.assert_array_equal(painted_cells(paint, 8), expected)


def test_unlikeness_is_half_the_distance_of_directions() -> None:
    a = np.array([[2, 0], [0, 3]], np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(unlikeness(a, np.array([[1, 0], [-5, 0]], np.float32)), [[0, 1], [half, half]], atol=1e-6)


def test_evenly_takes_the_ends() -> None:
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(100, 3).tolist() == [0, 50, 99]
    assert evenly(0, 3).tolist() == []


@pytest.mark.parametrize("turned", [False, True])
def test_slivers_at_the_edges_are_no_places(model: MaskedAutoencoder | Segmenter, turned: bool) -> None:
    values = np.full((100, 96), 0.1, np.float32)  # 100 is six cells and a quarter
    values[96:, 32:48] = 1.0
    values[50, 50] = 0.9
    if turned:
        values = np.ascontiguousarray(values.T)
    found = places(model, [image(0, *values.shape, uncertainty=values)], count=6).places
    assert found
    last = [place.column if turned else place.row for place in found]
    assert max(last) < 96
    assert len(places(model, [image(1, 6, 90)], count=2).places) == 2, "an image that is all sliver has places"
