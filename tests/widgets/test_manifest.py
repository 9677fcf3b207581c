"""What napari finds: a manifest whose every command exists, samples without a download, a reader for our models only."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import npe2
import numpy as np
import pytest
from napari.layers import Layer

import napari_affmae
from napari_affmae.card import ModelCard
from napari_affmae.widgets import commands, reader, samples
from napari_affmae.widgets.state import ModelOnDisk

MANIFEST = Path(napari_affmae.__file__).parent / "napari.yaml"


@pytest.fixture(scope="module")
def manifest():
    return npe2.PluginManifest.from_file(MANIFEST)


def test_every_command_exists(manifest):
    for command in manifest.contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name)), command.id


def test_every_contribution_names_a_command(manifest):
    ids = {command.id for command in manifest.contributions.commands}
    named = {item.command for items in manifest.contributions.menus.values() for item in items}
    named |= {one.command for one in (*manifest.contributions.widgets, *manifest.contributions.readers)}
    named |= {one.command for one in manifest.contributions.sample_data}
    assert named == ids


def test_menus_are_napari_s(manifest):
    from napari._app_model.constants import MenuId

    known = {str(menu) for menu in MenuId.contributables()}
    assert set(manifest.contributions.menus) <= known


@pytest.mark.parametrize("sample", [samples.synthetic_electron_micrograph, samples.histology, samples.single_cell])
def test_samples_open_without_a_download(sample, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a sample reached for the network"))
    layers = [Layer.create(*data) for data in sample()]
    assert layers[0].data.shape[:2] >= (500, 500)
    assert len({tuple(layer.scale) for layer in layers}) == 1


def test_the_exact_labels_have_a_color_for_every_class():
    image, labels = [Layer.create(*data) for data in samples.synthetic_electron_micrograph()]
    assert labels.data.shape == image.data.shape
    for class_id in np.unique(labels.data):
        assert labels.colormap.map(np.array([class_id]))[0, 3] == 1


def write_safetensors(path, metadata):
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return str(path)


def test_the_reader_takes_our_models_and_leaves_others_alone(tmp_path):
    ours = write_safetensors(tmp_path / "ours.safetensors", {"napari_affmae": "{}"})
    other = write_safetensors(tmp_path / "other.safetensors", {"format": "pt"})
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    assert reader.get_reader(ours) is not None
    assert reader.get_reader([ours]) is not None
    for path in (other, str(empty), str(tmp_path / "absent.safetensors"), [ours, other], []):
        assert reader.get_reader(path) is None


def test_a_dropped_model_reaches_the_dock(make_napari_viewer, make_dock, engine, tmp_path, monkeypatch, wait_idle):
    dock = make_dock()
    monkeypatch.setattr(reader, "open_dock", lambda: dock)
    path = Path(write_safetensors(tmp_path / "ours.safetensors", {"napari_affmae": "{}"}))
    engine.models[path] = ModelOnDisk(path, 1, 0, ModelCard())
    assert reader.get_reader(str(path))(str(path)) == [(None,)]
    wait_idle(dock)
    assert dock.session.state.pretrained.path == path


@pytest.fixture
def napari_with_plugin(npe2pm, make_napari_viewer):
    """A viewer whose napari knows this plugin, installed or not."""
    with npe2pm.tmp_plugin(manifest=npe2.PluginManifest.from_file(MANIFEST)):
        yield make_napari_viewer()


def test_napari_opens_samples_and_models(napari_with_plugin, tmp_path, wait_idle):
    viewer = napari_with_plugin
    viewer.open_sample("napari-affmae", "synthetic-em")
    assert [layer.name for layer in viewer.layers] == ["synthetic EM", "synthetic EM · exact labels"]
    from napari_affmae.model.mae import MaskedAutoencoder
    from napari_affmae.model.model_file import save_model
    from napari_affmae.model_config import ModelConfig

    path = save_model(MaskedAutoencoder(ModelConfig.preset("tiny")), tmp_path / "network.safetensors")
    viewer.open(path, plugin="napari-affmae")
    assert len(viewer.layers) == 2, "a model is no layer"
    _, dock = viewer.window.add_plugin_dock_widget("napari-affmae", "AFFMAE")
    wait_idle(dock)
    assert dock.session.state.pretrained.path == path
    path.write_bytes(path.read_bytes()[:5000])
    viewer.open(path, plugin="napari-affmae")
    wait_idle(dock)
    assert "damaged" in dock.status.text()
    dock.shut_down()


def test_menu_entries_open_the_right_step_and_say_what_is_missing(make_dock, monkeypatch):
    dock = make_dock()
    monkeypatch.setattr(commands, "open_dock", lambda: dock)
    for command, step, missing in (
        (commands.annotate, 3, "Choose images in step 1 first"),
        (commands.segment, 3, "Train on your paint"),
        (commands.look, 4, "Pretrain in step 2"),
    ):
        command()
        assert [section.is_open() for section in dock.sections].index(True) == step - 1
        assert missing in dock.status.text()
