"""Live training: rounds halve the loss on the newest stroke, predict what is visible first, and end when they are stale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_affmae.config import LiveConfig
from napari_affmae.control import LiveControl
from napari_affmae.data.classes import default_classes
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine.class_heads import with_classes
from napari_affmae.engine.evaluate import evaluate
from napari_affmae.engine.image_source import ArraySource
from napari_affmae.engine.live import LiveRequest, LiveSession
from napari_affmae.engine.live_features import stacked
from napari_affmae.engine.live_paint import Paint
from napari_affmae.engine.live_tiles import Canvas, Region, TiledImage, finished_bands
from napari_affmae.engine.segment import segment
from napari_affmae.events import LivePrediction, LiveRound, LiveStep
from napari_affmae.model.model_file import load_model
from napari_affmae.model.segmenter import Segmenter

CLASSES = default_classes((1, 2))
CONFIG = LiveConfig(
    tile=32, window=16, batch=4, learning_rate=5e-3, seconds=1e-6, least_steps=12, most_steps=60, fine_steps=3, device="cpu"
)


@pytest.fixture
def images(blobs):
    return collection_from_arrays({"one": blobs[0], "two": np.ascontiguousarray(blobs[0][::-1])})


@pytest.fixture
def model(micro):
    torch.manual_seed(0)
    return Segmenter(micro, 2)


@pytest.fixture
def open_session(model, images):
    return lambda **changes: LiveSession(model, CLASSES, images, CONFIG.replace(**changes))


@pytest.fixture
def paint(blobs):
    """Two strokes, one per class: ids 1 and 2 in a part of the image."""
    paint = np.zeros(blobs[1].shape, np.uint8)
    paint[8:24, 8:40] = blobs[1][8:24, 8:40] + 1
    return paint


def request(images, paint, generation=1, visible=None):
    record = images.records[0]
    return LiveRequest(generation, [LabelledImage(record, paint)], record, visible)


def collected(events):
    """Return the events, and the predicted image as far as it was handed out."""
    listed = list(events)
    shown = np.zeros((96, 80), np.uint8)
    for event in listed:
        if isinstance(event, LivePrediction):
            shown[event.top : event.top + event.labels.shape[0], event.left : event.left + event.labels.shape[1]] = event.labels
    return listed, shown


def done(events):
    [found] = [event for event in events if isinstance(event, LiveRound)]
    return found


def test_a_round_halves_the_loss_on_the_new_stroke(open_session, images, paint, blobs):
    session = open_session(most_steps=200)
    session._seconds = 5.0
    first = done(list(session.round(request(images, paint), LiveControl())))
    assert first.loss_after <= 0.5 * first.loss_before
    # the opposite of what was just learned, elsewhere: old paint must not hide that nothing was learned about the new
    more = paint.copy()
    more[60:76, 40:70] = 2 - blobs[1][60:76, 40:70]
    second = done(list(session.round(request(images, more, 2), LiveControl())))
    assert second.number == 2
    assert second.loss_before > 0.5
    assert second.loss_after <= 0.5 * second.loss_before


def test_events_come_in_order_and_cover_the_image(open_session, images, paint):
    visible = Region(0, 40, 40, 80)
    events, shown = collected(open_session().round(request(images, paint, visible=visible), LiveControl()))
    kinds = [type(event) for event in events]
    assert kinds[0] is LiveStep
    place = kinds.index(LiveRound)
    part = events[place - 1]
    assert part.visible
    assert (part.top + part.labels.shape[0], part.left + part.labels.shape[1]) == (40, 80)
    assert not any(event.visible for event in events[place + 1 :])
    assert shown.all(), "every pixel was handed out"


def test_what_the_visible_tiles_show_besides_is_handed_out_too(open_session, images, paint):
    _, shown = collected(open_session().round(request(images, paint, visible=Region(1, 1, 95, 79)), LiveControl()))
    assert shown.all()


def test_prediction_is_that_of_the_saved_model(open_session, images, paint, tmp_path):
    session = open_session()
    _, shown = collected(session.round(request(images, paint, visible=Region(10, 30, 50, 60)), LiveControl()))
    path = session.save(tmp_path)
    saved = load_model(path)
    assert saved.card.classes == CLASSES
    assert saved.card.history[-1]["job"] == "live"
    data = saved.card.history[-1]["data"]
    assert data["images"]["count"] == len(data["images"]["hashes"]) == len(data["labels"]["hashes"])
    later = segment(path, images.records[0].array, tile=32, overlap=session.overlap, device="cpu")
    np.testing.assert_array_equal(shown, later.labels)
    assert len(session.model.card.history) == len(saved.card.history) - 1


def test_the_saved_model_can_be_evaluated(open_session, images, paint, tmp_path):
    session = open_session()
    list(session.round(request(images, paint), LiveControl()))
    result = evaluate(session.save(tmp_path), [LabelledImage(images.records[0], paint)], sparse=True, device="cpu")
    assert 0 < result.miou <= 1


def test_nothing_new_means_no_training(open_session, images, paint):
    session = open_session()
    list(session.round(request(images, paint), LiveControl()))
    weights = {name: value.clone() for name, value in session.model.state_dict().items()}
    events, _ = collected(session.round(request(images, paint.copy(), 2), LiveControl()))
    assert done(events).steps == 0
    assert done(events).loss_after is None
    assert all(torch.equal(value, weights[name]) for name, value in session.model.state_dict().items())


def test_erasing_is_a_change(open_session, images, paint):
    session = open_session()
    list(session.round(request(images, paint), LiveControl()))
    erased = paint.copy()
    erased[8:12] = 0
    assert done(list(session.round(request(images, erased, 2), LiveControl()))).steps > 0


def test_one_class_only_is_not_trained_on(open_session, images, paint):
    events, _ = collected(open_session().round(request(images, (paint == 1).astype(np.uint8)), LiveControl()))
    assert done(events).steps == 0


@pytest.mark.parametrize("after", [1, 5])
def test_a_newer_request_ends_training_between_two_steps(open_session, images, paint, after):
    session, control = open_session(), LiveControl()
    events = []
    for event in session.round(request(images, paint), control):
        events.append(event)
        if len(events) == after:
            control.supersede(2)
    assert [type(event) for event in events] == [LiveStep] * after
    # what the dropped round was about is still new
    assert session.paint.has_new
    assert done(list(session.round(request(images, paint, 2), control))).steps > 0


def test_a_newer_request_ends_prediction_between_two_tiles(open_session, images, paint, monkeypatch):
    session, control = open_session(), LiveControl()
    predicted = []
    predict = session.steps.predict

    def counted(pixels):
        predicted.append(1)
        if len(predicted) == 2:
            control.supersede(7)
        return predict(pixels)

    monkeypatch.setattr(session.steps, "predict", counted)
    events, _ = collected(session.round(request(images, paint), control))
    assert len(predicted) == 2
    assert not any(isinstance(event, LivePrediction | LiveRound) for event in events)


def test_a_stop_ends_a_round_and_a_refinement(open_session, images, paint):
    session, control = open_session(), LiveControl()
    for run in (session.round, session.refine):
        control = LiveControl()
        control.stop()
        assert not any(isinstance(event, LiveRound) for event in run(request(images, paint), control))


def test_generations_only_grow():
    control = LiveControl(3)
    control.supersede(2)
    assert not control.stale(3)
    assert control.stale(2)
    control.supersede(4)
    assert control.stale(3)


def test_remembered_features_change_nothing(open_session, images, paint):
    results = []
    for cache_bytes, prepared in ((0, False), (1 << 24, False), (1 << 24, True)):
        session = open_session(cache_bytes=cache_bytes)
        if prepared:
            session.prepare(request(images, paint, visible=Region(50, 0, 96, 80)), LiveControl())
        _, shown = collected(session.round(request(images, paint), LiveControl()))
        tile = session.steps.predict(session._tiled["one"].read(0, 0))
        results.append((shown, tile, session.steps.features.computed))
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][1], results[2][1])
    np.testing.assert_array_equal(results[0][0], results[2][0])
    assert results[1][2] < results[0][2]


def test_features_follow_the_content(open_session, images):
    session = open_session()
    features = session.steps.features
    pixels = np.random.default_rng(0).normal(size=(1, 32, 32)).astype(np.float32)
    first = features(pixels)
    assert features(pixels.copy()) is first
    pixels[0, 3, 3] += 1
    assert not torch.equal(features(pixels)[0].tokens, first[0].tokens)
    assert features.computed == 2


def test_the_cache_keeps_to_its_limit(open_session):
    session = open_session(cache_bytes=100_000)
    for seed in range(30):
        session.steps.features(np.random.default_rng(seed).normal(size=(1, 32, 32)).astype(np.float32))
        assert session.steps.features.bytes <= 100_000
    assert session.steps.features.bytes > 0


def test_batch_mates_change_no_prediction(open_session, images):
    session = open_session()
    tiles = [session._open(images.records[place]).read(0, 0) for place in (0, 1)]
    features = [session.steps.features(tile) for tile in tiles]
    model, grid = session.model.eval(), (8, 8)
    with torch.no_grad():
        together = model.decode(stacked(features), grid).logits
        for place, alone in enumerate(features):
            torch.testing.assert_close(together[place : place + 1], model.decode(alone, grid).logits, rtol=1e-4, atol=1e-5)


def test_a_refinement_teaches_the_encoder_and_forgets_its_features(open_session, images, paint):
    session = open_session()
    list(session.round(request(images, paint), LiveControl()))
    before = next(session.model.encoder.parameters()).clone()
    kept = session.steps.features.computed
    events, _ = collected(session.refine(request(images, paint, 2), LiveControl()))
    assert done(events).fine
    assert done(events).steps == 3
    assert not torch.equal(before, next(session.model.encoder.parameters()))
    assert session.steps.features.computed > kept


def test_a_round_leaves_the_encoder_alone(open_session, images, paint):
    session = open_session()
    before = [parameter.clone() for parameter in session.model.encoder.parameters()]
    list(session.round(request(images, paint), LiveControl()))
    assert all(torch.equal(a, b) for a, b in zip(before, session.model.encoder.parameters(), strict=True))


def test_a_new_class_keeps_what_is_known_of_the_others(open_session, images, paint):
    session = open_session()
    list(session.round(request(images, paint), LiveControl()))
    tile = session._tiled["one"].read(0, 0)
    before = session.steps.predict(tile)
    session.use_classes(default_classes((1, 2, 3)))
    after = session.steps.predict(tile)
    assert after.shape[0] == 3
    np.testing.assert_allclose(after[0] / after[1], before[0] / before[1], rtol=1e-3)
    painted = paint.copy()
    painted[70:80, 10:30] = 3
    events, shown = collected(session.round(request(images, painted, 2), LiveControl()))
    assert done(events).steps > 0
    assert set(np.unique(shown)) <= {1, 2, 3}


def test_classes_are_told_apart_by_id(model):
    model.card = model.card.replace(classes=CLASSES)
    swapped = with_classes(model, CLASSES[::-1])
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(swapped.eval()(image).logits, model.eval()(image).logits.flip(1))


def test_fresh_heads_tell_no_pixel_of_a_patch_from_another(open_session):
    weight = open_session().model.heads["res2"].linear.weight.view(16, 2, -1)
    assert torch.equal(weight, weight[:1].expand_as(weight))
    assert not torch.equal(weight[:, 0], weight[:, 1])


def test_a_saved_model_is_gone_on_with(open_session, images, paint, tmp_path):
    session = open_session()
    list(session.round(request(images, paint), LiveControl()))
    again = LiveSession(session.save(tmp_path), CLASSES, images, CONFIG)
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in session.model.state_dict().items())


def test_paint_knows_what_is_new(images, paint):
    record = images.records[0]
    known = Paint(CLASSES, 16, 4)
    known.update([LabelledImage(record, paint)])
    assert known.has_new
    known.caught_up()
    more = paint.copy()
    more[60:64, 60:64] = 2
    known.update([LabelledImage(record, more)])
    tiled = {"one": TiledImage(ArraySource(record.array), 32, 8, 4)}
    rng = np.random.default_rng(0)
    for _ in range(20):
        window = known.draw(tiled, rng, new=True)
        assert (known.targets(window, new=True) >= 0).any()
        assert set(np.unique(known.targets(window, new=True))) == {-1, 1}
    [window] = known.cover(tiled, 3, rng)
    assert (known.targets(window, new=True) >= 0).sum() == 16
    assert known.pixels.tolist() == [(more == 1).sum(), (more == 2).sum()]


def test_windows_agree_with_the_image(images, paint):
    record = images.records[0]
    known = Paint(CLASSES, 16, 4)
    known.update([LabelledImage(record, paint)])
    tiled = {"one": TiledImage(ArraySource(record.array), 32, 8, 4)}
    rng = np.random.default_rng(1)
    for _ in range(30):
        window = known.draw(tiled, rng, new=False)
        assert window.row % 4 == window.column % 4 == 0
        assert 0 <= window.row <= 16
        top, left = window.tile[0] + window.row, window.tile[1] + window.column
        expected = paint[top : top + 16, left : left + 16].astype(int) - 1
        np.testing.assert_array_equal(known.targets(window)[: expected.shape[0], : expected.shape[1]], expected)


@pytest.mark.parametrize("shape", [(96, 80), (20, 13), (32, 32), (33, 70)])
def test_tiles_add_up_to_the_image(shape):
    rng = np.random.default_rng(2)
    pixels = rng.random(shape).astype(np.float32)
    image = TiledImage(ArraySource(pixels), 32, 8, 4)
    canvas = Canvas(image, image.whole)
    for tile in image.tiles(image.whole):
        read = image.read(*tile)
        assert read.shape == (1, 32, 32)
        canvas.add(tile, np.concatenate([read, 1 - read]))
    np.testing.assert_array_equal(canvas.classes(image.whole), (pixels < 0.5).astype(int))


def test_bands_are_final_when_they_say_so():
    image = TiledImage(ArraySource(np.zeros((100, 60))), 32, 8, 4)
    region = Region(10, 5, 91, 47)
    tiles = image.tiles(region)
    covered, left = 10, set(tiles)
    for row, band in finished_bands(tiles, region):
        left -= set(row)
        assert band.top == covered
        covered = band.bottom
        assert not any(top < band.bottom for top, _ in left)
    assert covered == 91
    assert not left


def test_memory_of_a_large_image_is_bounded():
    image = TiledImage(ArraySource(np.broadcast_to(np.uint8(0), (30_000, 30_000))), 256, 32, 8)
    visible = Region(12_000, 29_000, 12_500, 29_800)
    extent = image.surroundings(visible, 5)
    assert extent.shape[0] * extent.shape[1] * 5 * 4 <= 1 << 29
    assert visible.within(extent) == visible
