"""Stacks slice by slice from the current one, multiscale and lazy layers, and results that stay on disk."""

from __future__ import annotations

from pathlib import Path

import dask.array
import numpy as np
import pytest
import torch
import zarr
from napari.layers import Image
from napari.utils.notifications import notification_manager

from napari_affmae.card import ModelCard, Normalisation, PixelSize
from napari_affmae.data.lazy_plane import LazyPlane
from napari_affmae.data.outputs import Outputs, writing
from napari_affmae.data.records import ImageRecord
from napari_affmae.engine.segment import segment
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig
from napari_affmae.widgets import plane as plane_module
from napari_affmae.widgets.image_jobs import Working
from napari_affmae.widgets.jobs import Engine
from napari_affmae.widgets.kinds import GROUP, KIND, Kind
from napari_affmae.widgets.large import LargeDone
from napari_affmae.widgets.plane import Plane
from napari_affmae.widgets.slices import slices_from
from napari_affmae.widgets.state import DEFAULT_CLASSES, ModelOnDisk

RNG = np.random.default_rng(0)
NM = PixelSize(y=8, x=4, unit="nanometer")


def test_slices_come_from_the_current_one_outwards():
    layer = Image(np.zeros((5, 8, 8)))
    assert [plane.index for plane in slices_from(Plane(layer, (1,)))] == [(1,), (2,), (0,), (3,), (4,)]
    layer = Image(np.zeros((2, 3, 8, 8)))
    order = [plane.index for plane in slices_from(Plane(layer, (1, 1)))]
    assert order[0] == (1, 1)
    assert order[-1] in {(0, 2), (0, 0)}
    assert sorted(order) == list(np.ndindex(2, 3))
    assert [plane.index for plane in slices_from(Plane(Image(np.zeros((8, 8))), ()))] == [()]


@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "multiscale"])
def test_planes_of_every_kind_of_layer_are_read_lazily(kind, rgb, tmp_path, monkeypatch):
    pixels = RNG.integers(0, 255, (3, 40, 50, *([4] if rgb else [])), np.uint8)
    if kind == "numpy":
        data = pixels
    elif kind == "dask":
        data = dask.array.from_array(pixels, chunks=16)
    else:
        data = zarr.create_array(str(tmp_path / "a.zarr"), shape=pixels.shape, chunks=(16,) * pixels.ndim, dtype="u1")
        data[...] = pixels
        if kind == "multiscale":
            data = [data, pixels[:, ::2, ::2]]
    layer = Image(data, rgb=rgb, multiscale=kind == "multiscale", contrast_limits=(0, 255))
    read = []
    get = LazyPlane.__getitem__
    monkeypatch.setattr(LazyPlane, "__getitem__", lambda self, key: read.append(key) or get(self, key))
    record = Plane(layer, (1,)).record()
    assert (record.height, record.width, record.channels) == (40, 50, 3 if rgb else 1)
    assert not read, "nothing is read in the main thread"
    expected = pixels[1][..., :3] if rgb else pixels[1][..., None]
    np.testing.assert_array_equal(record.read(), expected)
    np.testing.assert_array_equal(record.open()[5:9, 7:8], expected[5:9, 7:8])


def test_all_slices_of_a_stack_the_shown_one_first(make_dock, engine, click, wait_idle):
    dock = make_dock()
    path = Path("model.safetensors")
    engine.models[path] = ModelOnDisk(path, 1, 2, ModelCard(classes=DEFAULT_CLASSES))
    dock._viewer.add_image(RNG.random((4, 40, 50)), name="stack", scale=(5, 1, 2), units=("um", "um", "um"))
    dock.session.state.segmenter = engine.models[path]
    dock._viewer.dims.set_point(0, 10)
    seen = []
    dock.session.event.connect(lambda event: seen.append(event.name) if isinstance(event, Working) else None)
    assert not dock.label.segment_slices.isHidden()
    click(dock.label.segment_slices)
    wait_idle(dock)
    assert seen == ["stack[2]", "stack[3]", "stack[1]", "stack[0]"]
    [layer] = [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION]
    assert layer.data.shape == (4, 40, 50)
    assert (layer.data > 0).all()
    np.testing.assert_array_equal(layer.scale, (5, 1, 2))
    dock._viewer.add_image(RNG.random((40, 50)), name="flat")
    assert dock.label.segment_slices.isHidden()


@pytest.mark.parametrize("channels", [None, 3])
def test_a_large_ome_zarr_is_opened_from_the_list_without_reading_it(
    make_dock, click, wait_idle, tmp_path, monkeypatch, qtbot, channels
):
    monkeypatch.setattr(plane_module, "LARGEST_IN_MEMORY", 1000)
    pixels = RNG.integers(0, 255, (1200, 700, *([channels] if channels else [])), np.uint8)
    place, planes = Outputs(tmp_path / "in" / "a.ome.zarr"), pixels if channels else pixels[..., None]
    with writing(place, planes, DEFAULT_CLASSES, probabilities=False, pixel_size=NM, overwrite=False) as rows:
        rows.write(0, np.ones((1200, 700), np.uint8), None)
    dock = make_dock()
    dock.images.folder.set_text(str(tmp_path / "in"))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    monkeypatch.setattr(ImageRecord, "read", lambda self: pytest.fail("the whole image was read"))
    dock.session.opener.open(dock.session.state.images.records[0])
    qtbot.waitUntil(lambda: "a.ome.zarr" in dock._viewer.layers, timeout=20_000)
    layer = dock._viewer.layers["a.ome.zarr"]
    assert layer.multiscale
    assert layer.rgb == (channels == 3)
    assert [level.shape[:2] for level in layer.data] == [(1200, 700), (600, 350), (300, 175)]
    np.testing.assert_array_equal(layer.data[0][5:9, 7:20], pixels[5:9, 7:20])
    np.testing.assert_array_equal(layer.scale, (8, 4))
    assert dock.session.state.image.height == 1200


def make_segmenter(tmp_path):
    torch.manual_seed(0)
    config = ModelConfig(
        patch_size=4, embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), neighbourhood=(16, 16, 16, 16),
        decoder_dim=8, decoder_heads=1,
    )  # fmt: skip
    network = Segmenter(config, 2)
    normalisation = Normalisation(low=(0,), high=(255,), mean=(120,), std=(60,))
    network.card = ModelCard(normalisation=normalisation, classes=DEFAULT_CLASSES, tile=64)
    return save_model(network, tmp_path / "model.safetensors")


def test_all_visible_images_are_segmented_though_one_is_large(make_dock, click, wait_idle, tmp_path, monkeypatch):
    monkeypatch.setattr(plane_module, "LARGEST_IN_MEMORY", 1000)
    dock = make_dock(fake=False)
    dock.session.settings = dock.session.settings.replace(project=str(tmp_path / "project"), device="cpu")
    for name, shape in (("small", (20, 30)), ("large", (600, 70)), ("stack", (2, 600, 50))):
        dock._viewer.add_image(RNG.integers(0, 255, shape, np.uint8), name=name)
    dock.session.state.segmenter = Engine().read_model(make_segmenter(tmp_path))
    click(dock.label.segment_visible)
    wait_idle(dock, 120_000)

    def made():
        return {layer.metadata[GROUP]: layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION}

    assert {name: layer.multiscale for name, layer in made().items()} == {"small": False, "large": True, "stack": True}
    dock._viewer.layers.selection.active = dock._viewer.layers["stack"]
    click(dock.label.segment_slices)
    wait_idle(dock, 120_000)
    messages = [note.message for note in notification_manager.records]
    assert any("only the shown one is segmented" in message for message in messages)
    assert made().keys() == {"small", "large", "stack"}


def test_the_result_for_a_large_image_stays_on_disk(make_dock, click, wait_idle, tmp_path, monkeypatch):
    monkeypatch.setattr(plane_module, "LARGEST_IN_MEMORY", 1000)
    path = make_segmenter(tmp_path)
    pixels = RNG.integers(0, 255, (600, 70), np.uint8)
    stored = zarr.create_array(str(tmp_path / "a.zarr"), shape=pixels.shape, chunks=(64, 64), dtype="u1")
    stored[...] = pixels
    dock = make_dock(fake=False)
    dock._viewer.add_image([stored, pixels[::2, ::2]], name="large", scale=(2, 3), translate=(7, 0), contrast_limits=(0, 255))
    dock.session.state.segmenter = Engine().read_model(path)
    for _ in range(2):  # a second result replaces the first
        click(dock.label.segment)
        wait_idle(dock, 120_000)
        [layer] = [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION]
        assert layer.multiscale
        assert [level.shape for level in layer.data] == [(600, 70), (300, 35)]
        assert isinstance(layer.data[0], zarr.Array)
        np.testing.assert_array_equal(layer.data[0][...], segment(path, pixels, device="cpu").labels)
        np.testing.assert_array_equal(layer.scale, (2, 3))
        np.testing.assert_array_equal(layer.translate, (7, 0))
    assert (dock.session.project / "large" / "large.ome.zarr").is_dir()


def test_live_takes_over_from_a_result_that_lies_on_disk(make_dock, click, wait_idle, tmp_path, monkeypatch, qtbot):
    monkeypatch.setattr(plane_module, "LARGEST_IN_MEMORY", 1000)
    dock = make_dock(fake=False)
    dock.session.settings = dock.session.settings.replace(project=str(tmp_path / "project"), device="cpu")
    dock._viewer.add_image(RNG.integers(0, 255, (600, 70), np.uint8), name="large")
    dock.label.from_scratch.setChecked(True)
    click(dock.label.paint)
    paint = dock.session.layers.paint_layer("large")
    paint.data_setitem((np.array([3]), np.array([3])), 1)
    paint.data_setitem((np.array([40]), np.array([3])), 2)
    live = dock.label.live_mode
    click(dock.label.live)
    qtbot.waitUntil(lambda: bool(live.rounds) and not live.runner.running, timeout=120_000)
    click(dock.label.live)
    click(dock.label.segment)
    wait_idle(dock, 120_000)
    [layer] = [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION]
    assert layer.multiscale
    click(dock.label.live)
    qtbot.waitUntil(lambda: layer not in dock._viewer.layers, timeout=30_000)
    qtbot.waitUntil(lambda: not live.runner.running, timeout=120_000)
    assert live.on
    [layer] = [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION]
    assert set(np.unique(layer.data)) <= {1, 2}


def test_a_large_image_that_was_removed_meanwhile_leaves_nothing_behind(make_dock, tmp_path, monkeypatch):
    dock = make_dock()
    image = dock._viewer.add_image(RNG.random((40, 50)), name="large")
    segmenting = dock.label.segmenting
    segmenting._planes = {"large": dock.session.layers.current()}
    dock._viewer.layers.remove(image)
    monkeypatch.setattr(
        "napari_affmae.widgets.segmenting.levels_of", lambda path: [np.ones((40, 50), np.uint8), np.ones((20, 25), np.uint8)]
    )
    dock.session.state.job = "segment"
    dock.session.event.emit(LargeDone("large", tmp_path, DEFAULT_CLASSES, np.zeros((5, 7), np.float32)))
    dock.session.state.job = None
    assert not dock._viewer.layers
