"""Where to paint next: the uncertainty follows the prediction, places are gone to, overlays hide while a key is held."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr
from napari.layers import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_affmae.card import ClassInfo, ModelCard
from napari_affmae.data.project_folder import read_project
from napari_affmae.engine.segment import segment as run_segment
from napari_affmae.engine.uncertainty import cell_means, uncertainty
from napari_affmae.events import LivePrediction
from napari_affmae.model.model_file import save_model
from napari_affmae.model_config import ModelConfig
from napari_affmae.widgets import plane as plane_module
from napari_affmae.widgets.kinds import KIND, PREDICTED, Kind
from napari_affmae.widgets.plane import UNSURE
from napari_affmae.widgets.state import DEFAULT_CLASSES, ModelOnDisk

SHAPE = (96, 128)


@dataclass(frozen=True)
class Result:
    """What segmenting returns."""

    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[ClassInfo, ...] = DEFAULT_CLASSES


def unsure(shape):
    """Half sure, half at a loss."""
    probabilities = np.zeros((2, *shape), np.float32)
    probabilities[0] = 1
    probabilities[:, :, shape[1] // 2 :] = 0.5
    return Result(np.ones(shape, np.uint8), probabilities)


@pytest.fixture
def model(tmp_path) -> Path:
    """A segmenter that nobody trained, for its features and for predictions."""
    from napari_affmae.model.segmenter import Segmenter

    config = ModelConfig(
        patch_size=4, embed_dims=(8, 12, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
        neighbourhood=(16, 16, 16, 16), decoder_dim=16, decoder_heads=2,
    )  # fmt: skip
    network = Segmenter(config, 2)
    network.card = ModelCard(classes=DEFAULT_CLASSES, tile=64)
    return save_model(network, tmp_path / "model.safetensors")


@pytest.fixture
def dock(make_dock, make_napari_viewer, engine, model, qtbot, tmp_path):
    """A dock with a fake segmentation, and the real search for places with a small network."""
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    dock.session.settings = dock.session.settings.replace(project=str(tmp_path / "project"), device="cpu")
    dock.session.open_project()
    engine.models[model] = ModelOnDisk(model, 1, 2, ModelCard(classes=DEFAULT_CLASSES))

    def segment(model, image, *, device, pixel_size, views, control):
        from napari_affmae.events import Done

        yield Done("segment", 1, None, result=engine.predicts(image.shape[:2]))

    engine.segment, engine.predicts = segment, unsure
    dock.session.state.segmenter = engine.models[model]
    viewer.add_image(np.random.default_rng(0).random(SHAPE), name="em", scale=(2, 2), translate=(5, 7))
    dock.label.next_section.open()
    qtbot.waitExposed(viewer.window._qt_window)
    return dock


def layer_of(dock, kind, name="em"):
    found = [
        layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == kind and layer.name.startswith(f"{name} · {kind}")
    ]
    return found[0] if found else None


def ringed(layer):
    """Return where rings are, after the casings and before the badges."""
    count = len(layer.data) // 3
    np.testing.assert_array_equal(layer.data[:count], layer.data[count : 2 * count])
    return [tuple(at) for at in layer.data[count : 2 * count].tolist()]


def switch(box, qtbot):
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))


def canvas_of(dock):
    return dock._viewer.window._qt_viewer.canvas.native


def test_the_uncertainty_follows_the_segmentation_in_place(dock, click, wait_idle, qtbot):
    click(dock.label.segment)
    wait_idle(dock)
    assert layer_of(dock, Kind.UNCERTAINTY) is None, "not asked for"
    switch(dock.label.next.uncertainty, qtbot)
    layer = layer_of(dock, Kind.UNCERTAINTY)
    assert layer.name == "em · uncertainty"
    assert layer.visible
    assert layer.contrast_limits == [0, 1]
    values = np.asarray(layer.data, np.float32)
    np.testing.assert_allclose(values[:, :64], 0, atol=1e-4)
    np.testing.assert_allclose(values[:, 64:], 1, atol=1e-3)
    np.testing.assert_array_equal(layer.scale, (2, 2))
    np.testing.assert_array_equal(layer.translate, (5, 7))
    click(dock.label.segment)
    wait_idle(dock)
    assert layer_of(dock, Kind.UNCERTAINTY) is layer
    switch(dock.label.next.uncertainty, qtbot)
    assert not layer.visible
    assert dock.session.settings.uncertainty is False


def test_live_predictions_write_it_part_by_part(dock):
    plane = dock.session.layers.current()
    part = np.full((10, 20), 0.75, np.float32)
    shown = LivePrediction("live", 1, "em", 30, 40, np.ones((10, 20), np.uint8), True, part)
    assert dock.session.layers.show_unsure_parts(plane, [shown]) is None, "not asked for"
    dock.session.layers.want_uncertainty(True)
    plane.layer.metadata.pop(UNSURE)
    made = dock.session.layers.show_unsure_parts(plane, [shown])
    layer = layer_of(dock, Kind.UNCERTAINTY)
    assert made is layer
    assert dock.session.layers.show_unsure_parts(plane, [shown]) is None
    assert made is layer
    assert layer.data[35, 50] == 0.75
    assert np.count_nonzero(layer.data) == 200


def test_it_is_kept_for_images_that_are_not_seen_and_shown_with_them(dock):
    layers = dock.session.layers
    plane = layers.current()
    layers.show_uncertainty(plane, [(0, 0, np.full(SHAPE, 0.5))])
    assert layers.has_uncertainty()
    [(_, values, _)] = layers.uncertain_planes()
    assert (values == 0.5).all()
    plane.layer.visible = False
    layers.want_uncertainty(True)
    assert layer_of(dock, Kind.UNCERTAINTY) is None
    assert layers.show_stack("em", (), ())
    assert layer_of(dock, Kind.UNCERTAINTY).visible
    copy = Image(plane.layer.data, name="em", metadata=dict(plane.layer.metadata))
    dock._viewer.layers.append(copy)
    assert len(layers.uncertain_planes()) == 1, "a copy is an image of its own"
    layers.remove_kept("em")
    assert not layers.has_uncertainty(), "it told of a prediction that is gone"


def test_places_are_found_listed_and_gone_to(dock, click, wait_idle, qtbot):
    part = dock.label.next
    assert not part.suggest.isEnabled()
    assert "Segment an image first" in part.suggest.toolTip()
    assert not part.list.isVisible()
    click(dock.label.segment)
    wait_idle(dock)
    click(dock.label.paint)
    paint = dock.session.layers.paint_layer("em")
    paint.data[:48, 64:] = 1
    click(part.suggest)
    wait_idle(dock)
    places = part.places.all
    assert places
    assert all(place.row >= 48 and place.column >= 64 for place in places), "unsure and not painted"
    assert all(place.unlike < 1 for place in places)
    rings = layer_of(dock, Kind.SUGGESTIONS)
    assert ringed(rings) == [(place.row, place.column) for place in places]
    assert part.list.count() == len(places)
    assert part.place.text() == f"Place 1 of {len(places)}"
    assert dock._viewer.layers.selection.active is paint, "the brush stays in the hand"
    assert paint.mode == "paint"

    def looks_at(number):
        centre = np.asarray(dock._viewer.scene.camera.center)[-2:]
        return np.allclose(centre, (5 + 2 * places[number].row, 7 + 2 * places[number].column))

    assert looks_at(0)
    canvas_of(dock).setFocus()
    QTest.keyClick(canvas_of(dock), Qt.Key.Key_G)
    assert looks_at(1)
    QTest.keyClick(canvas_of(dock), Qt.Key.Key_G, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(canvas_of(dock), Qt.Key.Key_G, Qt.KeyboardModifier.ShiftModifier)
    assert looks_at(len(places) - 1)
    click(part.next)
    assert looks_at(0)
    where = part.list.visualItemRect(part.list.item(1)).center()
    qtbot.mouseClick(part.list.viewport(), Qt.MouseButton.LeftButton, pos=where)
    assert looks_at(1)
    assert part.place.text() == f"Place 2 of {len(places)}"
    zoom, side = dock._viewer.scene.camera.zoom, part.places.side
    assert min(dock._viewer.canvas.size) / zoom == pytest.approx(8 * side * 2, rel=0.01)
    before = places
    click(part.suggest)
    wait_idle(dock)
    assert part.places.all == before


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("grey", [0, 120, 255])
def test_rings_and_numbers_are_seen_on_every_image_and_canvas(dock, theme, grey):
    """Wherever they lie there is something much brighter and something much darker than the other."""
    viewer = dock._viewer
    viewer.theme = theme
    viewer.layers["em"].data = np.full(SHAPE, grey, np.uint8)
    viewer.layers["em"].contrast_limits = (0, 255)
    plane = dock.session.layers.current()
    on_canvas, on_image = (0, (), 4, 32), (1, (), 60, 100)
    dock.session.layers.show_suggestions(plane, [on_canvas, on_image], 16, current=0)
    rings = layer_of(dock, Kind.SUGGESTIONS)
    for middle, half in zip(rings.data[2:], (40, 40, 12, 12), strict=True):
        viewer.scene.camera.zoom = 2
        viewer.scene.camera.center = rings.data_to_world(middle)
        shot = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int).max(axis=-1)
        row, column = (side // 2 for side in shot.shape)
        around = shot[row - half : row + half, column - half : column + half]
        assert around.max() - around.min() > 150


def test_places_lead_to_other_images_and_slices(dock, click, wait_idle, qtbot):
    viewer, part = dock._viewer, dock.label.next
    viewer.layers.clear()
    viewer.add_image(np.random.default_rng(1).random((64, 64)), name="one")
    click(dock.label.segment)
    wait_idle(dock)
    viewer.add_image(np.random.default_rng(2).random((3, 64, 64)), name="stack")
    viewer.dims.set_current_step(0, 1)
    click(dock.label.segment)
    wait_idle(dock)
    click(part.suggest)
    wait_idle(dock)
    assert {place.image for place in part.places.all} == {"one", "stack[1]"}
    viewer.dims.set_current_step(0, 2)
    for number, place in enumerate(part.places.all):
        part.places.go(number)
        assert dock.session.layers.current().name == place.image
    rings = layer_of(dock, Kind.SUGGESTIONS, "stack")
    assert (rings.data[:, 0] == 1).all()
    viewer.layers.remove("one")
    gone = next(number for number, place in enumerate(part.places.all) if place.image == "one")
    part.places.go(gone)
    assert "not open any more" in dock.status.text()


def test_regions_can_be_accepted_while_a_prediction_is_seen(dock, click, wait_idle):
    click(dock.label.segment)
    wait_idle(dock)
    accept, layer = dock.label.next.accept, layer_of(dock, Kind.SEGMENTATION)
    assert accept.isEnabled()
    layer.visible = False
    assert not accept.isEnabled()
    layer.visible = True
    assert accept.isEnabled()
    dock.shut_down()
    layer.visible = False
    assert accept.isEnabled(), "a dock that is closed hears nothing"


def test_a_prediction_that_is_sure_suggests_nothing(dock, engine, click, wait_idle):
    engine.predicts = sure
    click(dock.label.segment)
    wait_idle(dock)
    click(dock.label.next.suggest)
    wait_idle(dock)
    assert "sure wherever" in dock.label.next.hint.text()
    assert not dock.label.next.list.isVisible()


def sure(shape):
    return Result(np.ones(shape, np.uint8), np.stack([np.ones(shape), np.zeros(shape)]).astype(np.float32))


def test_of_a_large_image_means_over_squares_are_shown(dock, engine, model, click, wait_idle, monkeypatch, tmp_path):
    """The real job: tile by tile into the project, from a zarr that is read part by part."""
    monkeypatch.setattr(plane_module, "LARGEST_IN_MEMORY", 100 * 100)
    array = zarr.open_array(tmp_path / "large.zarr", mode="w", shape=(600, 104), chunks=(32, 32), dtype="uint8")
    array[:] = np.random.default_rng(0).integers(0, 255, (600, 104), np.uint8)
    dock._viewer.layers.clear()
    dock._viewer.add_image(array, name="large", scale=(3, 3))
    click(dock.label.segment)
    wait_idle(dock)
    dock.session.layers.want_uncertainty(True)
    layer = layer_of(dock, Kind.UNCERTAINTY, "large")
    assert layer.visible
    assert layer.data.shape == (75, 13)
    assert dock._viewer.layers["large"].metadata[UNSURE][1] == 8
    np.testing.assert_array_equal(layer.scale, (24, 24))
    np.testing.assert_array_equal(layer.translate, (10.5, 10.5))
    expected = cell_means(uncertainty(run_segment(model, np.asarray(array[:]), device="cpu").probabilities), 8)
    np.testing.assert_allclose(layer.data, expected, atol=1e-5)
    assert dock.session.keeper.flush(), "what is on disk already is no reason for paint not to be saved"
    click(dock.label.next.suggest)
    wait_idle(dock)
    assert dock.label.next.places.all
    assert all(place.row < 600 and place.column < 104 for place in dock.label.next.places.all)


def test_stop_ends_the_search(dock, engine, click, wait_idle):
    click(dock.label.segment)
    wait_idle(dock)
    click(dock.label.next.suggest)
    click(dock.label.next.stop)
    wait_idle(dock)
    assert dock.label.next.suggest.isEnabled()


def test_overlays_hide_while_the_key_is_held_and_come_back_as_they_were(dock, click, wait_idle, qtbot):
    click(dock.label.segment)
    wait_idle(dock)
    click(dock.label.paint)
    overlays = dock.session.layers.overlays()
    layer_of(dock, Kind.SEGMENTATION).opacity = 0.3
    before = {layer: (layer.opacity, layer.visible) for layer in overlays}
    paint = dock.session.layers.paint_layer("em")
    canvas = canvas_of(dock)
    canvas.setFocus()
    QTest.keyPress(canvas, Qt.Key.Key_H)
    assert [layer.opacity for layer in overlays] == [0] * len(overlays)
    assert dock._viewer.layers["em"].opacity == 1
    assert paint.mode == "paint"
    QTest.keyRelease(canvas, Qt.Key.Key_H)
    assert {layer: (layer.opacity, layer.visible) for layer in overlays} == before
    assert paint.mode == "paint"


@pytest.mark.parametrize("how", ["focus", "close"])
def test_overlays_come_back_if_the_release_is_never_heard(dock, click, wait_idle, qtbot, how):
    click(dock.label.segment)
    wait_idle(dock)
    segmentation = layer_of(dock, Kind.SEGMENTATION)
    canvas = canvas_of(dock)
    dock._viewer.window._qt_window.activateWindow()
    canvas.setFocus()
    QApplication.processEvents()
    QTest.keyPress(canvas, Qt.Key.Key_H)
    assert segmentation.opacity == 0
    if how == "focus":
        dock.label.minutes.setFocus()
        qtbot.waitUntil(lambda: segmentation.opacity == PREDICTED, timeout=2000)
        QTest.keyRelease(canvas, Qt.Key.Key_H)
    else:
        dock.shut_down()
    assert segmentation.opacity == PREDICTED


def test_what_appears_while_the_key_is_held_is_hidden_too(dock, click, wait_idle):
    canvas = canvas_of(dock)
    canvas.setFocus()
    QTest.keyPress(canvas, Qt.Key.Key_H)
    click(dock.label.segment)
    canvas.setFocus()
    wait_idle(dock)
    segmentation = layer_of(dock, Kind.SEGMENTATION)
    assert segmentation is not None
    QTest.keyRelease(canvas, Qt.Key.Key_H)
    assert segmentation.opacity == PREDICTED


@pytest.mark.parametrize("key", ["G", "Shift+G", "Q", "H"])
def test_the_keys_are_not_napari_s(dock, key):
    from napari.layers import Image, Labels, Points, Shapes
    from napari.utils.action_manager import action_manager

    taken = {str(shortcut) for shortcuts in action_manager._shortcuts.values() for shortcut in shortcuts}
    taken |= {str(one) for kind in (Image, Labels, Points, Shapes, type(dock._viewer)) for one in kind.class_keymap}
    assert taken, "napari has keys"
    assert key not in taken


@pytest.fixture
def suggested(dock, engine, click, wait_idle, model):
    """The dock with places that the network of the project's first run was unsure of."""
    run = dock.session.project / "finetune-1"
    run.mkdir(parents=True)
    path = shutil.copy(model, run / "model.safetensors")
    dock.session.state.segmenter = ModelOnDisk(path, 1, 2, trained_at("8:59"))
    engine.models[path] = ModelOnDisk(path, 1, 2, trained_at("9:00"))  # live mode wrote it once more when it was switched off
    click(dock.label.segment)
    wait_idle(dock)
    click(dock.label.next.suggest)
    wait_idle(dock)
    assert dock.label.next.places.all
    return dock


def trained_at(date):
    return ModelCard(classes=DEFAULT_CLASSES, tile=64, history=({"job": "finetune", "date": date},))


def test_places_survive_a_restart(suggested, make_dock, click):
    assert suggested.session.keeper.file.suggested.model == "finetune-1/model.safetensors"
    before = suggested.label.next.places
    suggested.shut_down()
    again = make_dock(suggested._viewer)
    part = again.label.next
    assert part.places.all == before.all
    assert part.places.side == before.side
    assert part.places.current is None, "the camera stays where it is"
    again.label.next_section.open()
    assert not part.list.isHidden()
    assert part.list.count() == len(before.all)
    rings = layer_of(again, Kind.SUGGESTIONS)
    assert ringed(rings) == [(place.row, place.column) for place in before.all]
    assert part.place.text() == f"{len(before.all)} places"
    click(part.next)
    assert part.place.text() == f"Place 1 of {len(before.all)}"


@pytest.mark.parametrize("how", ["trained on", "newer run", "gone"])
def test_places_come_back_whatever_became_of_the_network(suggested, make_dock, engine, click, how):
    """They are there to be painted, and painting trains: what was left over before a restart is left over after it."""
    path = suggested.session.state.segmenter.path
    places = suggested.label.next.places.all
    suggested.shut_down()
    if how == "trained on":
        engine.models[path] = ModelOnDisk(path, 1, 2, trained_at("9:05"))
    elif how == "newer run":
        newer = path.parent.with_name("finetune-2") / path.name
        newer.parent.mkdir()
        shutil.copy(path, newer)
    else:
        path.unlink()
    again = make_dock(suggested._viewer)
    part = again.label.next
    assert part.places.all == places
    again.label.next_section.open()
    click(part.next)
    row, column = suggested._viewer.layers["em"].world_to_data(again._viewer.scene.camera.center[-2:])
    assert (row, column) == pytest.approx((places[0].row, places[0].column))
    assert again.session.keeper.flush()
    assert read_project(again.session.project).suggested.suggestions.places == places


def test_places_are_gone_through_while_training_but_not_with_another_network(suggested, engine, model, click, wait_idle):
    part = suggested.label.next
    places = part.places.all
    path = suggested.session.state.segmenter.path
    suggested.session.state.segmenter = ModelOnDisk(path, 1, 2, trained_at("9:05"))
    assert part.places.all == places
    other = model.with_name("other.safetensors")
    engine.models[other] = ModelOnDisk(other, 1, 2, trained_at("8:00"))
    suggested.load_model(other)
    wait_idle(suggested)
    assert part.places.all == ()
    assert layer_of(suggested, Kind.SUGGESTIONS) is None
    assert suggested.session.keeper.file.suggested is None


@pytest.mark.parametrize("run", ["finetune-1", "finetune-2"])
def test_places_stay_with_the_same_network_or_a_later_run_of_it(suggested, engine, wait_idle, run):
    places = suggested.label.next.places.all
    path = suggested.session.project / run / "model.safetensors"
    engine.models[path] = ModelOnDisk(path, 1, 2, trained_at("9:30"))
    suggested.load_model(path)
    wait_idle(suggested)
    assert suggested.session.state.segmenter.path == path
    assert suggested.label.next.places.all == places


def test_a_search_that_finds_nothing_leaves_nothing_of_the_one_before(suggested, engine, click, wait_idle):
    assert suggested.session.keeper.file.suggested is not None
    engine.predicts = sure
    click(suggested.label.segment)
    wait_idle(suggested)
    click(suggested.label.next.suggest)
    wait_idle(suggested)
    assert suggested.session.keeper.file.suggested is None
