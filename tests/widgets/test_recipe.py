"""The folded settings of steps 2 and 3 reach the jobs, say when they are not as usual, and are remembered."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_affmae.card import ModelCard
from napari_affmae.config import FinetuneConfig
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig
from napari_affmae.widgets import plane as plane_module
from napari_affmae.widgets.jobs import Engine
from napari_affmae.widgets.settings_store import DockSettings, SettingsStore
from napari_affmae.widgets.state import DEFAULT_CLASSES, ModelOnDisk


@pytest.fixture
def dock(make_dock, make_napari_viewer, engine, tmp_path, qtbot):
    """A shown dock with an image, two painted classes, a pretrained network and a segmenter; step 3's settings unfolded."""
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer)
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.add_image(np.random.default_rng(0).random((64, 96)), name="em")
    paint = dock.session.layers.create_paint(dock.session.layers.current(), dock.session.state.classes, None)
    labels = np.zeros((64, 96), np.uint8)
    labels[:20], labels[40:] = 1, 2
    paint.data = labels
    dock.session.count_paint()
    pretrained, segmenter = tmp_path / "mae.safetensors", tmp_path / "segmenter.safetensors"
    dock.session.state.pretrained = engine.models[pretrained] = ModelOnDisk(pretrained, 1, 0, ModelCard())
    card = ModelCard(classes=DEFAULT_CLASSES)
    dock.session.state.segmenter = engine.models[segmenter] = ModelOnDisk(segmenter, 1, 2, card)
    return dock


def choose(box, qtbot, place):
    """Choose an entry of a box with the keyboard."""
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Home)
    for _ in range(place):
        QTest.keyClick(box, Qt.Key.Key_Down)


def unfold(section, qtbot):
    qtbot.mouseClick(section.heading, Qt.MouseButton.LeftButton)
    assert section.content.isVisible()


def change(recipe, qtbot):
    unfold(recipe, qtbot)
    for spin, key, times in ((recipe.deform, Qt.Key.Key_Down, 3), (recipe.focus, Qt.Key.Key_Up, 4)):
        for _ in range(times):
            QTest.keyClick(spin, key)
    choose(recipe.average, qtbot, 2)
    choose(recipe.views, qtbot, 2)


def test_folded_it_is_the_recipe_of_the_command_line(dock, engine, click, wait_idle):
    recipe = dock.label.recipe
    assert not recipe.is_open()
    assert recipe.heading.text() == "More settings"
    assert [spin.text() for spin in (recipe.deform, recipe.focus)] == ["0.50", "off"]
    click(dock.label.train)
    wait_idle(dock)
    [config] = engine.finetune_configs
    assert config == FinetuneConfig(budget=config.budget, device=config.device)
    assert config.budget.minutes == dock.label.minutes.value()


def test_training_comparing_and_segmenting_follow_it(dock, engine, click, wait_idle, qtbot):
    recipe = dock.label.recipe
    change(recipe, qtbot)
    assert recipe.heading.text() == "More settings  –  4 changed"
    click(dock.label.train)
    wait_idle(dock)
    click(dock.label.compare.begin)
    wait_idle(dock)
    assert [(one.deform, one.focus, one.average) for one in engine.finetune_configs] == [(0.2, 2, 0.99)] * 2
    click(dock.label.segment)
    wait_idle(dock)
    click(dock.label.segment_visible)
    wait_idle(dock)
    assert engine.views == [4, 4]


def test_it_is_remembered(dock, make_dock, qtbot):
    change(dock.label.recipe, qtbot)
    unfold(dock.pretrain.more, qtbot)
    choose(dock.pretrain.selection, qtbot, 1)
    dock.shut_down()
    again = make_dock(dock._viewer)
    recipe = again.label.recipe
    assert (recipe.deform.value(), recipe.focus.value()) == (0.2, 2)
    assert (recipe.average.currentData(), recipe.views.currentData()) == (0.99, 4)
    assert "4 changed" in recipe.heading.text()
    assert again.pretrain.selection.currentData() == "local"
    assert "1 changed" in again.pretrain.more.heading.text()


def test_a_value_that_is_no_choice_stays_chosen(make_dock, tmp_path):
    SettingsStore(tmp_path / "settings" / "dock.json").save(DockSettings(average=0.5))
    recipe = make_dock().label.recipe
    assert recipe.average.currentData() == 0.5
    assert recipe.average.currentText() == "0.5 kept"


def test_pretraining_takes_the_tokens_that_stay(dock, engine, image_folder, click, wait_idle, qtbot):
    dock.images.folder.set_text(str(image_folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    click(dock.pretrain.start)
    wait_idle(dock)
    assert engine.config.model == ModelConfig.preset("tiny")
    unfold(dock.pretrain.more, qtbot)
    choose(dock.pretrain.selection, qtbot, 1)
    click(dock.pretrain.start)
    wait_idle(dock)
    assert engine.config.model == ModelConfig.preset("tiny", selection="local")


@pytest.mark.parametrize("large", [True, False])
def test_files_are_written_with_as_many_views(make_dock, image_folder, tmp_path, click, wait_idle, monkeypatch, large):
    """The real job, for all images and for one that is too large to be held."""
    dock = make_dock()
    config = ModelConfig(
        patch_size=4, embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), neighbourhood=(16, 16, 16, 16),
        decoder_dim=8, decoder_heads=1,
    )  # fmt: skip
    network = Segmenter(config, 2)
    network.card = ModelCard(classes=DEFAULT_CLASSES, tile=64)
    dock.session.state.segmenter = Engine().read_model(save_model(network, tmp_path / "real.safetensors"))
    dock.label.recipe.views.setCurrentIndex(1)
    if large:
        monkeypatch.setattr(plane_module, "LARGEST_IN_MEMORY", 100 * 100)
        dock._viewer.add_image(np.random.default_rng(0).random((600, 104)), name="large")
        click(dock.label.segment)
    else:
        dock.images.folder.set_text(str(image_folder))
        dock.images._render()
        click(dock.images.scan)
        wait_idle(dock)
        dock.label.parts[1].open()
        click(dock.label.apply.apply)
    wait_idle(dock, 60_000)
    assert dock.session.keeper.flush()
    log = dock.session.project / ("large" if large else "segmented-1") / "segment.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines
    assert all(line["settings"]["views"] == 2 for line in lines)
