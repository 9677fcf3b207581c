"""Live training: rounds halve the loss on the newest stroke, predict what is visible first, and end when they are stale."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_affmae.card import Normalisation, PixelSize
from napari_affmae.config import LiveConfig
from napari_affmae.control import LiveControl
from napari_affmae.data.classes import default_classes
from napari_affmae.data.fingerprint import label_fingerprint
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine.class_heads import with_classes
from napari_affmae.engine.described_paint import DescribedPaint, result_of
from napari_affmae.engine.evaluate import evaluate
from napari_affmae.engine.finetune import start_segmenter
from napari_affmae.engine.fit_readout import balanced_loss_on, fit_readout
from napari_affmae.engine.image_source import ArraySource
from napari_affmae.engine.live import LiveSession
from napari_affmae.engine.live_fine import FineTraining
from napari_affmae.engine.live_paint import Paint, spread
from napari_affmae.engine.live_request import LiveRequest
from napari_affmae.engine.live_tiles import Canvas, Region, TiledImage, finished_bands
from napari_affmae.engine.segment import segment
from napari_affmae.errors import LabelError
from napari_affmae.events import ImageBegun, LivePrediction, LiveRound, LiveStep, Notice
from napari_affmae.model.model_file import load_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_report import report

CLASSES = default_classes((1, 2))
CONFIG = LiveConfig(tile=32, learning_rate=5e-3, fine_steps=3, device="cpu")


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


def saved_curve(session):
    return session._network.record.describe([], session.config, [])["curve"]


def test_a_round_halves_the_loss_on_the_new_stroke(open_session, images, paint, blobs):
    session = open_session()
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


def test_with_the_image_out_of_sight_all_of_it_is_predicted(open_session, images, paint):
    events, shown = collected(open_session().round(request(images, paint, visible=Region(500, 500, 600, 600)), LiveControl()))
    assert done(events)
    assert (shown > 0).all()


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
    later = segment(path, images.records[0].array, tile=32, overlap=session.images.overlap, device="cpu")
    np.testing.assert_array_equal(shown, later.labels)
    assert len(session.model.card.history) == len(saved.card.history) - 1


def test_the_saved_model_tells_the_loss_of_each_round(open_session, images, paint, tmp_path):
    session, control = open_session(), LiveControl()
    more = paint.copy()
    more[60:70] = 2
    for generation, labels in enumerate((paint, more, more), start=1):
        list(session.round(request(images, labels, generation), control))
    record = load_model(session.save(tmp_path)).card.history[-1]
    curve = record["curve"]
    assert curve["unit"] == "round"
    assert curve["steps"] == [1, 2], "without new paint there is no round"
    assert record["figures"]["rounds"] == 2
    rows = session._rows(session.paint.all, session.config.most_pixels)
    assert curve["losses"][-1] == pytest.approx(balanced_loss_on(session.model.readout, rows, 2), rel=1e-3)
    assert curve["losses"][-1] < math.log(2), "better than a guess"
    stale = LiveControl(9)
    list(session.round(request(images, paint, 4), stale))
    assert load_model(session.save(tmp_path)).card.history[-1]["curve"] == curve
    training = report(tmp_path).trainings[-1]
    assert (training.unit, training.steps, training.losses) == ("round", (1, 2), tuple(curve["losses"]))


def test_pixels_that_are_left_out_are_stood_for(open_session, images, paint):
    session = open_session()
    list(session.round(request(images, paint, 1), LiveControl()))
    rows = session._rows(session.paint.all, 100)
    assert torch.bincount(rows.classes).tolist() == [50, 50]
    assert torch.bincount(rows.classes, rows.stands_for).tolist() == pytest.approx(session.paint.counts.tolist())


def test_the_saved_model_says_the_pixel_size_that_it_learned_at(open_session, images, paint, model, tmp_path):
    coarse, fine = PixelSize(y=8, x=8, unit="nanometer"), PixelSize(y=4, x=4, unit="nanometer")
    model.card = model.card.replace(pixel_size=coarse)
    session = open_session()
    record = replace(images.records[0], pixel_size=fine)
    list(session.round(LiveRequest(1, [LabelledImage(record, paint)], None), LiveControl()))
    assert load_model(session.save(tmp_path)).card.pixel_size == fine


def test_another_range_of_values_is_said_once_an_image(open_session, images, paint, model):
    model.card = model.card.replace(normalisation=Normalisation(low=(0,), high=(9,), mean=(5,), std=(3,)))
    session = open_session()
    for generation in (1, 2):
        events = session.round(request(images, paint, generation), LiveControl())
        said = [event.message for event in events if isinstance(event, Notice)]
        assert len(said) == (generation == 1)
        assert all("100 % of the pixels of one lie outside" in message for message in said)


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
    assert not [event for event in events if isinstance(event, LivePrediction)], "fresh heads know nothing"


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
    assert session.paint.new
    assert done(list(session.round(request(images, paint, 2), control))).steps > 0


def test_a_newer_request_ends_prediction_between_two_tiles(open_session, images, paint, monkeypatch):
    session, control = open_session(), LiveControl()
    predicted = []
    predict = session.predict

    def counted(pixels, background):
        predicted.append(1)
        if len(predicted) == 2:
            control.supersede(7)
        return predict(pixels, background)

    monkeypatch.setattr(session, "predict", counted)
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
            list(session.round(LiveRequest(0, [], images.records[0], Region(50, 0, 96, 80)), LiveControl()))
        _, shown = collected(session.round(request(images, paint), LiveControl()))
        tile = session.predict(session.images["one"].read(0, 0), session.images["one"].background)
        results.append((shown, tile, session.features.computed))
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][1], results[2][1])
    np.testing.assert_array_equal(results[0][0], results[2][0])
    assert results[1][2] < results[0][2]


def test_all_tiles_of_an_image_have_one_background(open_session, images, paint, monkeypatch, tmp_path):
    """A threshold means the same in all of them, live and later, and moves with the image."""
    seen = []
    plain = Segmenter._description

    def watched(self, padded, background, *rest):
        seen.append(float(background))
        return plain(self, padded, background, *rest)

    monkeypatch.setattr(Segmenter, "_description", watched)
    session = open_session()
    list(session.round(request(images, paint), LiveControl()))
    segment(session.save(tmp_path / "live.safetensors"), images.records[0].array, device="cpu")
    assert len(seen) > 8
    assert set(seen) == {float(session.images["one"].background[0])}


def test_features_follow_the_content(open_session, images):
    session = open_session()
    features = session.features
    pixels = np.random.default_rng(0).normal(size=(1, 32, 32)).astype(np.float32)
    dark, bright = np.zeros(1, np.float32), np.ones(1, np.float32)
    first = features(pixels, dark)
    assert features(pixels.copy(), dark.copy()) is first
    assert not torch.equal(features(pixels, bright).filters, first.filters)
    pixels[0, 3, 3] += 1
    assert not torch.equal(features(pixels, dark).context, first.context)
    assert features.computed == 3


def test_the_cache_keeps_to_its_limit(open_session):
    session = open_session(cache_bytes=1_000_000)
    for seed in range(30):
        session.features(np.random.default_rng(seed).normal(size=(1, 32, 32)).astype(np.float32), np.zeros(1, np.float32))
        assert session.features.bytes <= 1_000_000
    assert session.features.bytes > 0


@pytest.fixture
def strokes(blobs):
    """Four strokes of each class, so that some can be kept back."""
    paint = np.zeros(blobs[1].shape, np.uint8)
    for place in range(4):
        rows = slice(20 * place + 4, 20 * place + 12)
        paint[rows, 4:40] = blobs[1][rows, 4:40] + 1
    return paint


def test_a_refinement_is_kept_if_it_helps_on_paint_kept_back(open_session, images, strokes, monkeypatch):
    session = open_session()
    list(session.round(request(images, strokes), LiveControl()))
    before = next(session.model.encoder.parameters()).clone()
    scores = iter((1.0, 0.5))
    monkeypatch.setattr(session, "_score", lambda *_, **__: next(scores))
    events, _ = collected(session.refine(request(images, strokes, 2), LiveControl()))
    found = done(events)
    assert found.fine
    assert found.steps == 3
    assert (found.loss_before, found.loss_after) == (1.0, 0.5)
    assert not torch.equal(before, next(session.model.encoder.parameters()))
    assert saved_curve(session)["steps"] == [1, 1], "what the refinement brought the loss down to, in the same round"


@pytest.mark.parametrize("end", ["worse", "stale"])
def test_a_refinement_that_does_not_help_leaves_everything_as_it_was(open_session, images, strokes, monkeypatch, end):
    session, control = open_session(), LiveControl()
    _, before = collected(session.round(request(images, strokes), control))
    weights = {name: value.clone() for name, value in session.model.state_dict().items()}
    computed = session.features.computed
    scores = iter((0.5, 0.6))
    monkeypatch.setattr(session, "_score", lambda *_, **__: next(scores))
    for _ in session.refine(request(images, strokes, 2), control):
        if end == "stale":
            control.supersede(3)
    assert all(torch.equal(value, weights[name]) for name, value in session.model.state_dict().items())
    _, after = collected(session.round(request(images, strokes.copy(), 4), control))
    np.testing.assert_array_equal(before, after)
    assert session.features.computed == computed
    assert saved_curve(session)["steps"] == [1], "same paint, no new round"


def test_a_stroke_that_comes_when_a_refinement_was_just_kept_is_learned_with_the_new_network(
    open_session, images, strokes, monkeypatch, tmp_path
):
    session, control = open_session(), LiveControl()
    list(session.round(request(images, strokes), control))

    def saved():
        return load_model(session.save(tmp_path / "model.safetensors")).state_dict()

    before = saved()
    scores = iter((1.0, 0.5))
    monkeypatch.setattr(session, "_score", lambda *_, **__: next(scores))
    look, readout = session._all_rows, session.model.readout

    def looked_at(stale):
        control.supersede(3)
        return look(stale)

    monkeypatch.setattr(session, "_all_rows", looked_at)
    assert not any(isinstance(event, LiveRound) for event in session.refine(request(images, strokes, 2), control))
    assert session.model.readout is readout
    learned = {name: value.clone() for name, value in session.model.state_dict().items()}
    now = saved()
    assert all(torch.equal(value, now[name]) for name, value in before.items()), "what the readout was fitted to"
    assert all(torch.equal(value, learned[name]) for name, value in session.model.state_dict().items())
    assert not all(torch.equal(value, learned[name]) for name, value in before.items())
    monkeypatch.setattr(session, "_all_rows", look)
    found = done(list(session.round(request(images, strokes, 3), control)))
    assert found.steps > 0, "the same paint, but another network"
    assert session.model.readout is not readout
    assert done(list(session.round(request(images, strokes, 4), control))).steps == 0
    ours = session.model.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in saved().items())


def test_a_round_looks_only_at_the_image_that_was_painted_on(open_session, images, paint):
    session = open_session(cache_bytes=0)
    other = LabelledImage(images.records[1], paint[::-1].copy())

    def asked(labels, generation, visible):
        before = session.features.computed
        examples = [LabelledImage(images.records[0], labels), other]
        list(session.round(LiveRequest(generation, examples, images.records[0], visible), LiveControl()))
        return session.features.computed - before

    nothing = Region(0, 0, 1, 1)
    asked(paint, 1, nothing)
    more = paint.copy()
    more[30:34, 8:40] = 1
    both = asked(more, 2, nothing)
    alone = open_session(cache_bytes=0)
    list(alone.round(LiveRequest(1, [LabelledImage(images.records[0], paint)], images.records[0], nothing), LiveControl()))
    before = alone.features.computed
    list(alone.round(LiveRequest(2, [LabelledImage(images.records[0], more)], images.records[0], nothing), LiveControl()))
    assert both == alone.features.computed - before


@dataclass(frozen=True, eq=False)
class Stored:
    """Paint on disk, and how often it was read."""

    labels: np.ndarray
    reads: list[int] = field(default_factory=list)

    def read(self):
        self.reads.append(1)
        if self.labels is None:
            raise LabelError("the paint is gone")
        return self.labels


def test_paint_on_closed_images_counts_as_if_they_were_open(open_session, images, paint, strokes):
    session = open_session()
    examples = [LabelledImage(images.records[0], paint)]
    stored = Stored(strokes[::-1].copy())
    closed = [(images.records[1], stored)]
    visible = Region(0, 0, 40, 40)
    wanted = LiveRequest(1, examples, images.records[0], visible, closed)
    events, shown = collected(session.round(wanted, LiveControl()))
    kinds = [type(event) for event in events]
    first, begun = kinds.index(LiveRound), kinds.index(ImageBegun)
    assert first < begun < len(kinds) - 1 - kinds[::-1].index(LiveRound), "the stroke is answered first"
    assert session.paint.counts.sum() == (paint > 0).sum() + (strokes > 0).sum()
    both = open_session()
    opened = [*examples, LabelledImage(images.records[1], stored.labels)]
    _, expected = collected(both.round(LiveRequest(1, opened, images.records[0], visible), LiveControl()))
    np.testing.assert_array_equal(shown, expected)
    again, _ = collected(session.round(replace(wanted, generation=2), LiveControl()))
    assert done(again).steps == 0
    assert len(stored.reads) == 1
    # It is opened, and then gone: each time what is there counts.
    list(session.round(replace(wanted, generation=3, examples=opened), LiveControl()))
    assert session.paint.counts.sum() == (paint > 0).sum() + (strokes > 0).sum()
    list(session.round(replace(wanted, generation=4, closed=()), LiveControl()))
    assert session.paint.counts.sum() == (paint > 0).sum()


def test_closed_images_alone_are_enough_to_learn_from(open_session, images, strokes, tmp_path):
    session = open_session()
    wanted = LiveRequest(1, [], images.records[0], None, [(images.records[1], Stored(strokes[::-1].copy()))])
    events = list(session.round(wanted, LiveControl()))
    learned = [event for event in events if isinstance(event, LiveRound)][-1]
    assert learned.steps > 0
    _, shown = collected(event for event in events if not isinstance(event, LiveRound))
    assert set(np.unique(shown)) == {1, 2}
    data = load_model(session.save(tmp_path)).card.history[-1]["data"]
    assert data["images"]["count"] == 1


@pytest.mark.parametrize("opened", [0, 1])
def test_where_open_images_have_too_little_paint_nothing_is_refined(open_session, images, strokes, opened):
    session = open_session()
    few = np.where(strokes == 1, strokes, 0).astype(np.uint8)
    examples = [LabelledImage(images.records[0], few)][:opened]
    wanted = LiveRequest(1, examples, images.records[0], None, [(images.records[1], Stored(strokes[::-1].copy()))])
    list(session.round(wanted, LiveControl()))
    readout = session.model.readout
    found = done(list(session.refine(replace(wanted, generation=2), LiveControl())))
    assert found.steps == 0
    assert session.model.readout is readout


def test_a_stroke_ends_the_look_at_closed_images_and_is_answered_without_them(open_session, images, paint, strokes):
    session, control = open_session(), LiveControl()
    closed = [(images.records[1], Stored(strokes[::-1].copy()))]
    wanted = LiveRequest(1, [LabelledImage(images.records[0], paint)], images.records[0], Region(0, 0, 9, 9), closed)
    for event in session.round(wanted, control):
        if isinstance(event, ImageBegun):
            control.supersede(2)
    assert isinstance(event, ImageBegun)
    more = paint.copy()
    more[60:64, 8:40] = 1
    session_events = session.round(replace(wanted, generation=2, examples=[LabelledImage(images.records[0], more)]), control)
    first = next(event for event in session_events if isinstance(event, LiveRound))
    assert first.steps > 0
    assert session.paint.counts.sum() == (more > 0).sum(), "the stroke does not wait for closed images"
    list(session_events)
    assert session.paint.counts.sum() == (more > 0).sum() + (strokes > 0).sum()


def test_a_closed_image_that_cannot_be_read_is_told_and_left_out(open_session, images, paint, strokes):
    session = open_session()
    broken = Stored(None)
    closed = [(images.records[1], broken)]
    wanted = LiveRequest(1, [LabelledImage(images.records[0], paint)], images.records[0], None, closed)
    events = list(session.round(wanted, LiveControl()))
    [notice] = [event for event in events if isinstance(event, Notice)]
    assert "two" in notice.message
    assert "gone" in notice.message
    list(session.round(replace(wanted, generation=2), LiveControl()))
    assert len(broken.reads) == 1
    mended = [(images.records[1], Stored(strokes[::-1].copy()))]
    list(session.round(replace(wanted, generation=3, closed=mended), LiveControl()))
    assert session.paint.counts.sum() == (paint > 0).sum() + (strokes > 0).sum()


def test_a_refinement_that_is_kept_looks_at_closed_images_anew(open_session, images, strokes, monkeypatch):
    session = open_session()
    closed = [(images.records[1], Stored(strokes[::-1].copy()))]
    wanted = LiveRequest(1, [LabelledImage(images.records[0], strokes)], images.records[0], None, closed)
    list(session.round(wanted, LiveControl()))
    scores = iter((1.0, 0.5))
    monkeypatch.setattr(session, "_score", lambda *_, **__: next(scores))
    events = list(session.refine(replace(wanted, generation=2), LiveControl()))
    assert [event.name for event in events if isinstance(event, ImageBegun)] == ["two"]
    assert done(events).fine
    rows = session._all_rows()
    session._described = DescribedPaint(2, session.device)
    assert torch.equal(rows.context, session._all_rows().context), "of the network as it is now"


def test_scores_on_paint_kept_back_come_from_other_paint(open_session, images, strokes):
    session = open_session()
    list(session.round(request(images, strokes), LiveControl()))
    readout = session.model.readout
    events, _ = collected(session.refine(request(images, strokes, 2), LiveControl()))
    assert 0 < done(events).loss_after <= done(events).loss_before
    assert (session.model.readout is readout) == (done(events).loss_after == done(events).loss_before)


def test_too_little_paint_to_keep_some_back_refines_nothing(open_session, images, paint):
    session = open_session()
    little = np.zeros_like(paint)
    little[4:8, 4:8], little[4:8, 30:34] = 1, 2
    list(session.round(request(images, little), LiveControl()))
    assert done(list(session.refine(request(images, little, 2), LiveControl()))).steps == 0


def test_a_round_leaves_the_network_alone(open_session, images, paint):
    session = open_session()
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    list(session.round(request(images, paint), LiveControl()))
    after = session.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert after.keys() > before.keys()


def test_the_same_paint_gives_the_same_segmentation_whatever_the_order_of_strokes(open_session, images, strokes):
    def shown(*parts):
        session, control = open_session(), LiveControl()
        so_far = np.zeros_like(strokes)
        for generation, part in enumerate(parts, start=1):
            so_far = so_far.copy()
            so_far[part] = strokes[part]
            control.supersede(generation)
            _, labels = collected(session.round(request(images, so_far, generation), control))
        return labels

    upper, lower = np.s_[:48], np.s_[48:]
    together = shown(np.s_[:])
    np.testing.assert_array_equal(shown(upper, lower), together)
    np.testing.assert_array_equal(shown(lower, upper), together)
    assert (shown(upper) != together).any()


def test_what_was_erased_leaves_no_trace(open_session, images, strokes):
    session = open_session()
    _, first = collected(session.round(request(images, strokes), LiveControl()))
    wrong = strokes.copy()
    wrong[80:90, 40:70] = 1
    list(session.round(request(images, wrong, 2), LiveControl()))
    _, again = collected(session.round(request(images, strokes.copy(), 3), LiveControl()))
    np.testing.assert_array_equal(first, again)


def test_a_class_that_is_added_is_learned_and_the_others_stay(open_session, images, paint):
    session = open_session()
    _, before = collected(session.round(request(images, paint), LiveControl()))
    session.use_classes(default_classes((1, 2, 3)))
    _, same = collected(session.round(request(images, paint, 2), LiveControl()))
    assert (same == before).mean() > 0.9
    assert 3 not in same
    painted = paint.copy()
    painted[70:80, 10:30] = 3
    events, shown = collected(session.round(request(images, painted, 3), LiveControl()))
    assert done(events).steps > 0
    assert set(np.unique(shown)) == {1, 2, 3}


@pytest.mark.parametrize("left", [(1, 3), (1,)])
def test_the_segmentation_goes_with_a_class_without_which_there_is_too_little_paint(open_session, images, strokes, left):
    session, control = open_session(), LiveControl()
    session.use_classes(default_classes((1, 2, 3)))
    record = images.records[0]

    def answer(generation, paint, ids):
        asked = {
            "paint": [(record, paint)],
            "image": record,
            "visible": (0, 0, 96, 80),
            "closed": (),
            "asked": 0.0,
            "fine": False,
        }
        return list(session.answer(SimpleNamespace(generation=generation, classes=default_classes(ids), **asked), control))

    _, first = collected(answer(1, strokes, (1, 2, 3)))
    assert first.all()
    events = answer(2, np.where(strokes == 1, strokes, 0).astype(np.uint8), left)
    assert done(events).number == 0
    [nothing] = [event.labels for event in events if isinstance(event, LivePrediction)]
    assert nothing.shape == strokes.shape
    assert not nothing.any()
    _, again = collected(answer(3, strokes, (1, 2, 3)))
    assert again.all()


def test_a_tile_that_is_left_open_does_not_depend_on_the_image_that_is_opened_first():
    tiles = set()
    for height in (40, 300):
        images = collection_from_arrays({"first": np.zeros((height, 300), np.uint8) + np.arange(300, dtype=np.uint8)})
        session = LiveSession("scratch:tiny", CLASSES, images, LiveConfig(device="cpu"))
        assert session.model.card.tile == session.tile
        tiles.add(session.tile)
    assert len(tiles) == 1


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


def test_trained_heads_have_a_say_and_fresh_ones_have_none(model, images, paint):
    model.card = model.card.replace(classes=CLASSES)
    trained = LiveSession(model, CLASSES, images, CONFIG)
    list(trained.round(request(images, paint), LiveControl()))
    rows = trained._rows(trained.paint.all, 6000)
    sure = torch.nn.functional.one_hot(rows.classes, 2).float() * 8
    unsure = torch.zeros_like(sure)
    for logits, least, most in ((sure, 0.25, 1.0), (-sure, 0.0, 0.0), (unsure, 0.0, 1.0)):
        readout = result_of(fit_readout(trained.model, replace(rows, logits=logits), 0, heads_trained=True))
        assert least <= float(readout.heads_share) <= most
    readout = result_of(fit_readout(trained.model, replace(rows, logits=sure), 0, heads_trained=False))
    assert float(readout.heads_share) == 0


def test_training_goes_on_from_a_live_model_without_its_readout(open_session, images, strokes, tmp_path):
    session = open_session()
    list(session.round(request(images, strokes), LiveControl()))
    path = session.save(tmp_path)
    started = start_segmenter(path, CLASSES, 1, 0)
    assert started.readout is None
    ours = session.model.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in started.state_dict().items())


def test_paint_knows_what_is_new(images, paint):
    record = images.records[0]
    known = Paint(CLASSES)
    known.update([LabelledImage(record, paint)])
    assert sum(map(len, known.new)) == (paint > 0).sum()
    known.caught_up()
    assert not known.new
    more = paint.copy()
    more[60:64, 60:64] = 2
    known.update([LabelledImage(record, more)])
    [new] = known.new
    assert len(new) == 16
    assert set(new.rows.tolist()) == set(new.columns.tolist()) == set(range(60, 64))
    assert set(new.classes.tolist()) == {1}
    assert known.counts.tolist() == [(more == 1).sum(), (more == 2).sum()]
    [found] = known.all
    np.testing.assert_array_equal(more[found.rows, found.columns], found.classes + 1)


def test_paint_that_is_refused_leaves_what_was_known(images, paint):
    record = images.records[0]
    known = Paint(CLASSES)
    first, last = (LabelledImage(replace(record, name=name), paint.copy()) for name in "ac")
    known.update([first, last])
    wrong = LabelledImage(replace(record, name="b"), np.full_like(paint, 9))
    with pytest.raises(LabelError):
        known.update([replace(first, labels=paint[::-1].copy()), wrong, last])
    known.update([first, last])
    assert [part.image for part in known.all] == ["a", "c"]
    np.testing.assert_array_equal(known.all[0].rows, np.nonzero(paint)[0])


def test_much_paint_is_thinned_out_evenly():
    labels = np.ones((100, 100), np.uint8)
    labels[:2], labels[50:60] = 2, 3
    known = Paint(default_classes((1, 2, 3)))
    image = collection_from_arrays({"a": np.eye(100, dtype=np.uint8)})
    known.update([LabelledImage(image.records[0], labels)])
    [few] = spread(known.all, 3, 1500)
    assert np.bincount(few.classes).tolist() == [650, 200, 650]
    [again] = spread(known.all, 3, 1500)
    np.testing.assert_array_equal(few.rows, again.rows)
    common = few.rows[few.classes == 0]
    assert common.min() < 10
    assert common.max() > 90
    [everything] = spread(known.all, 3, 10_000)
    assert len(everything) == 10_000


def test_pixels_are_dealt_out_to_the_tile_in_whose_middle_they_are():
    image = TiledImage(ArraySource(np.zeros((100, 60))), 32, 8, 4)
    rows, columns = (values.ravel() for values in np.mgrid[:100, :60])
    taken = np.zeros(len(rows), int)
    for (top, left), chosen in image.by_tile(rows, columns):
        taken[chosen] += 1
        for positions, start, starts in ((rows, top, image._rows.starts), (columns, left, image._columns.starts)):
            middle = np.abs(positions[chosen] - start - 15.5)
            nearest = np.abs(positions[chosen][:, None] - np.array(starts) - 15.5).min(axis=1)
            assert (middle <= nearest + 1).all()
            assert ((positions[chosen] >= start) & (positions[chosen] < start + 32)).all()
    assert (taken == 1).all()


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


def test_what_is_visible_is_described_before_the_first_stroke(open_session, images, paint):
    visible = Region(0, 0, 40, 40)
    session = open_session()
    [event] = session.round(LiveRequest(1, [], images.records[0], visible), LiveControl(1))
    assert isinstance(event, LiveRound)
    described = session.features.computed
    tiles = session.images["one"].tiles(visible)
    assert described == len(set(tiles)) > 0
    computed_by_then = []
    for event in session.round(request(images, paint, 2, visible), LiveControl(2)):
        if isinstance(event, LivePrediction) and event.visible:
            computed_by_then.append(session.features.computed)
    assert computed_by_then == [described], "the first answer waited for the network"


def test_a_stroke_ends_the_look_ahead(open_session, images):
    session, control = open_session(), LiveControl(1)
    rounds = session.round(LiveRequest(1, [], images.records[0]), control)
    next(rounds)
    control.supersede(2)
    assert not list(rounds)
    assert session.features.computed == 0


def test_few_tiles_say_how_features_vary_and_all_say_what_is_painted(open_session, images, blobs, monkeypatch):
    session = open_session()
    list(session.round(request(images, blobs[1] + 1), LiveControl(1)))
    everything = session._rows(session.paint.all, 10_000)
    monkeypatch.setattr("napari_affmae.engine.described_paint._TILES", 2)
    bounded = session._rows(session.paint.all, 10_000)
    assert len(bounded.patches) == 2 * (CONFIG.tile // session.model.config.patch_size) ** 2 < len(everything.patches)
    assert torch.equal(bounded.filters, everything.filters)
    assert torch.equal(bounded.context, everything.context)


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_round_that_was_cut_off_is_not_in_what_is_saved(open_session, images, paint, tmp_path, rounds):
    session = open_session()
    few = paint.copy()
    few[:, 30:] = 0
    for generation in range(rounds):
        list(session.round(request(images, few, generation), LiveControl()))
    control = LiveControl()
    for _ in session.round(request(images, paint, 2), control):
        control.stop()
    learned = session.unsaved
    record = load_model(session.save(tmp_path)).card.history[-1]
    assert record["figures"]["painted_pixels"] == [rounds * int((few == class_id).sum()) for class_id in (1, 2)]
    assert record["data"]["labels"]["hashes"] == [label_fingerprint(few)] * rounds
    assert learned == bool(rounds)
    assert not session.unsaved


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("left", [0, 1])
def test_when_all_but_one_class_is_undone_the_session_is_as_it_began(open_session, images, strokes, monkeypatch, refined, left):
    session, control = open_session(), LiveControl()
    weights = {name: value.clone() for name, value in session.model.state_dict().items()}
    _, first = collected(session.round(request(images, strokes), control))
    if refined:
        scores = iter((1.0, 0.5))
        monkeypatch.setattr(session, "_score", lambda *_, **__: next(scores))
        list(session.refine(request(images, strokes, 2), control))
    undone = np.where(strokes == left, strokes, 0).astype(np.uint8)
    for run in (session.round, session.refine):
        events = list(run(request(images, undone, 3), control))
        assert (done(events).number, done(events).steps, done(events).loss_after) == (0, 0, None)
        # Again and again: the window drops what came before the next undo.
        [nothing] = [event.labels for event in events if isinstance(event, LivePrediction)]
        assert nothing.shape == strokes.shape
        assert not nothing.any()
    assert session.model.readout is None
    assert all(torch.equal(value, session.model.state_dict()[name]) for name, value in weights.items())
    assert not session.unsaved, "there is nothing to save"
    assert session.undone
    events, again = collected(session.round(request(images, strokes.copy(), 4), control))
    assert session.unsaved
    assert not session.undone
    np.testing.assert_array_equal(again, first)
    assert done(events).number == 1


def test_a_segmenter_that_a_session_began_with_is_what_undone_strokes_leave(open_session, images, paint, strokes, tmp_path):
    first, control = open_session(), LiveControl()
    _, expected = collected(first.round(request(images, paint), control))
    session = LiveSession(first.save(tmp_path), CLASSES, images, CONFIG)
    _, other = collected(session.round(request(images, strokes, 2), control))
    assert (other != expected).any()
    _, shown = collected(session.round(request(images, np.zeros_like(paint), 3), control))
    np.testing.assert_array_equal(shown, expected)
    assert session.unsaved
    assert not session.undone
    began, now = load_model(tmp_path), load_model(session.save(tmp_path / "undone.safetensors"))
    assert now.card.history[-1]["figures"]["painted_pixels"] == [0, 0]
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in began.state_dict().items())


def test_a_painted_image_that_is_closed_is_not_taken_for_undone(open_session, images, strokes):
    session = open_session()
    list(session.round(request(images, strokes), LiveControl()))
    closed = [(images.records[0], Stored(strokes.copy()))]
    events = list(session.round(LiveRequest(2, [], images.records[1], None, closed), LiveControl()))
    assert all(event.labels.all() for event in events if isinstance(event, LivePrediction)), "what was learned is shown"
    assert [event.number for event in events if isinstance(event, LiveRound)] == [1, 2]


def test_a_refinement_that_nobody_waits_for_looks_at_nothing(open_session, images, strokes, monkeypatch):
    session = open_session()
    list(session.round(request(images, strokes), LiveControl()))
    for what, place in ((session, "_take"), (session.images, "open")):
        monkeypatch.setattr(what, place, lambda *_: pytest.fail("a stroke waits for this"))
    monkeypatch.setattr(FineTraining, "sampler", lambda *_: pytest.fail("a stroke waits for this"))
    assert not list(session.refine(request(images, strokes, 2), LiveControl(3)))


@pytest.mark.parametrize("also", [False, True])
def test_the_network_learns_nothing_from_paint_on_very_large_images(open_session, blobs, strokes, monkeypatch, also):
    large = collection_from_arrays({"large": np.tile(blobs[0], (2, 1))}).records[0]
    small = collection_from_arrays({"small": blobs[0]}).records[0]
    monkeypatch.setattr("napari_affmae.engine.live.MOST_PIXELS", blobs[0].size)
    session = LiveSession(open_session().model, CLASSES, ImageCollection((large,)), CONFIG)
    paint = np.concatenate([strokes, np.zeros_like(strokes)])
    examples = [LabelledImage(large, paint), *[LabelledImage(small, strokes)] * also]
    wanted = LiveRequest(1, examples, large, Region(0, 0, 20, 20))
    list(session.round(wanted, LiveControl()))
    asked = []
    sampler = FineTraining.sampler
    monkeypatch.setattr(FineTraining, "sampler", lambda fine, given: asked.append(given) or sampler(fine, given))
    found = done(list(session.refine(replace(wanted, generation=2), LiveControl())))
    assert (found.steps > 0) == also
    assert [example.name for given in asked for example in given] == ["small"] * also
