"""Images of several channels, of which the user takes some."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_affmae.card import ModelCard
from napari_affmae.widgets.kinds import KIND
from napari_affmae.widgets.state import DEFAULT_CLASSES, ModelOnDisk, Phase


@pytest.fixture
def dock(make_dock, click, wait_idle, qtbot, tmp_path):
    """A dock on two images of four channels, the first one open with all of them and painted."""
    folder = tmp_path / "channels"
    folder.mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 255, (4, 48, 64), np.uint8)
        tifffile.imwrite(folder / f"cells_{seed}.tif", pixels, metadata={"axes": "CYX"}, photometric="minisblack")
    dock = make_dock()
    dock.session.settings = dock.session.settings.replace(project=str(tmp_path / "project"))
    dock.images.folder.set_text(str(folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    dock.session.opener.open(dock.session.state.images.records[0])
    qtbot.waitUntil(lambda: dock.session.state.image is not None, timeout=5000)
    click(dock.label.paint)
    layer = paint_of(dock)
    layer.paint((10, 10), 1)
    layer.paint((30, 30), 2)
    yield dock
    dock.shut_down()


def paint_of(dock):
    return dock.session.layers.paint_layer("cells_0.tif")


def choose(dock, *channels):
    """Click the channels in the menu until these are the chosen ones."""
    for place, action in enumerate(dock.images._channel_menu.actions()):
        if action.isChecked() != (place in channels):
            action.trigger()


def opened(dock):
    return [layer for layer in dock._viewer.layers if KIND not in layer.metadata]


def test_an_open_image_is_shown_and_trained_on_in_the_channels_that_are_chosen(dock, engine, click, wait_idle, qtbot):
    before = paint_of(dock).data.copy()
    assert dock.session.state.images.channels == 4
    choose(dock, 1, 3)
    assert dock.session.state.images.channels == 2
    qtbot.waitUntil(lambda: paint_of(dock) is not None and opened(dock)[0].data[..., 2].max() == 0, timeout=5000)
    [image] = opened(dock)
    pixels = dock.session.state.images.records[0].read()
    np.testing.assert_array_equal(image.data[..., :2], pixels)
    np.testing.assert_array_equal(paint_of(dock).data, before)
    dock.label.from_scratch.setChecked(True)
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=2000)
    click(dock.label.train)
    wait_idle(dock)
    [example] = engine.examples
    assert example.record.chosen_channels == (1, 3)
    np.testing.assert_array_equal(example.labels, before)


def test_channels_stay_while_the_paint_cannot_be_saved(dock, monkeypatch):
    monkeypatch.setattr(dock.session.keeper, "flush", lambda timeout=10.0: False)
    choose(dock, 1, 3)
    assert dock.session.state.images.channels == 4
    assert all(action.isChecked() for action in dock.images._channel_menu.actions())
    assert dock.images.channels.text() == "all 4"
    assert "could not be saved" in dock.status.text()
    assert paint_of(dock) is not None


def test_reading_the_folder_again_keeps_the_channels(dock, engine, click, wait_idle, qtbot):
    choose(dock, 1, 3)
    qtbot.waitUntil(lambda: paint_of(dock) is not None, timeout=5000)
    click(dock.images.scan)
    wait_idle(dock)
    qtbot.waitUntil(lambda: paint_of(dock) is not None, timeout=5000)
    [(record, _)] = dock.session.painted_examples()
    assert record.chosen_channels == dock.session.state.images.records[0].chosen_channels == (1, 3)
    choose(dock, 0, 1, 2, 3)
    qtbot.waitUntil(lambda: paint_of(dock) is not None, timeout=5000)
    click(dock.images.scan)
    wait_idle(dock)
    assert dock.session.state.images.channels == 4


def test_the_channels_come_back_after_a_restart(dock, make_dock, click, wait_idle, qtbot, tmp_path):
    choose(dock, 1, 3)
    qtbot.waitUntil(lambda: paint_of(dock) is not None, timeout=5000)
    dock.shut_down()
    dock._viewer.layers.clear()
    again = make_dock(dock._viewer)
    again.session.settings = again.session.settings.replace(project=str(tmp_path / "project"))
    again.images.folder.set_text(str(tmp_path / "channels"))
    again.images._render()
    click(again.images.scan)
    wait_idle(again)
    assert again.images.channels.text() == "2 of 4"
    assert [action.isChecked() for action in again.images._channel_menu.actions()] == [False, True, False, True]
    assert again.session.state.images.records[0].chosen_channels == (1, 3)
    qtbot.waitUntil(lambda: paint_of(again) is not None, timeout=5000)
    [(record, labels)] = again.session.painted_examples()
    assert record.chosen_channels == (1, 3)
    assert labels.any()
    again.shut_down()


def test_channels_are_called_as_they_are_shown(make_dock, click, wait_idle):
    dock = make_dock()
    dock._viewer.add_image(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8), name="stained", rgb=True)
    click(dock.images.use_layers)
    wait_idle(dock)
    assert [action.text() for action in dock.images._channel_menu.actions()] == ["red", "green", "blue"]
    dock._viewer.layers[0].data = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint16)
    click(dock.images.use_layers)
    wait_idle(dock)
    assert [action.text() for action in dock.images._channel_menu.actions()] == ["channel 0", "channel 1", "channel 2"]


def test_the_button_for_channels_says_why_it_is_dead(dock):
    button = dock.images.channels
    assert button.isEnabled()
    dock.session.state.job, dock.session.state.phase = "pretrain", Phase.RUNNING
    assert not button.isEnabled()
    assert "Wait until" in button.toolTip()
    dock.session.state.job, dock.session.state.phase = None, Phase.IDLE


@pytest.mark.parametrize("channels", [(), (4,), (1, 9)])
def test_a_choice_that_these_images_do_not_have_is_no_choice(dock, click, wait_idle, channels):
    keeper = dock.session.keeper
    keeper.update(settings=keeper.file.settings.replace(channels=channels))
    click(dock.images.scan)
    wait_idle(dock)
    assert dock.session.state.images.channels == 4
    assert dock.images.channels.text() == "all 4"


def test_colours_of_an_image_that_the_user_opened_are_chosen_too(make_dock, click, wait_idle):
    dock = make_dock()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    dock._viewer.add_image(pixels, name="stained", rgb=True)
    click(dock.images.use_layers)
    wait_idle(dock)
    click(dock.label.paint)
    dock.session.layers.paint_layer("stained").paint((10, 10), 1)
    choose(dock, 0, 2)
    [(record, _)] = dock.session.painted_examples()
    np.testing.assert_array_equal(record.read(), pixels[..., [0, 2]])
    assert record.chosen_channels == (0, 2), "a model's card says so"
    assert dock.session.state.images.records[0].channels == 2
    choose(dock, 0, 1, 2)
    [(record, _)] = dock.session.painted_examples()
    assert record.channels == 3


def test_a_network_that_does_not_take_the_images_says_so_when_they_are_read_and_where_it_would_be_used(dock, engine, tmp_path):
    path = tmp_path / "one" / "model.safetensors"
    engine.models[path] = ModelOnDisk(path, 1, 2, ModelCard(classes=DEFAULT_CLASSES))
    dock.session.state.pretrained = dock.session.state.segmenter = engine.models[path]
    step = dock.label
    for button in (step.train, step.live, step.segment, step.apply.apply):
        assert not button.isEnabled()
        assert "trained on 1 channel, these images have 4" in button.toolTip()
    assert step.pixel_note.text() == step.train.toolTip(), "nobody has to look for it"
    choose(dock, 0, 1)
    assert "trained on 1 channel, these images have 2" in dock.status.text()
    choose(dock, 1)
    assert dock.status.text() == "Using 1 channel of 4."


def test_only_the_chosen_channels_of_an_open_coloured_layer_count(make_dock, make_napari_viewer, click, wait_idle):
    viewer = make_napari_viewer()
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8), name="stain")
    dock = make_dock(viewer)
    click(dock.images.use_layers)
    wait_idle(dock)
    assert dock.session.state.image.channels == 3
    choose(dock, 2)
    assert dock.session.state.image.channels == 1
    dock.shut_down()
