"""Apply to all in the dock: the engine's real job on a small model, stopped, taken up, and said."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile
import torch

from napari_affmae.card import ModelCard, Normalisation
from napari_affmae.engine.segment import segment
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig
from napari_affmae.widgets.jobs import Engine
from napari_affmae.widgets.state import DEFAULT_CLASSES

JOB = 120_000


@pytest.fixture
def dock(make_dock, image_folder, engine, click, wait_idle, tmp_path, qtbot):
    """A dock with three images, a broken one, and a segmenter; the apply part open."""
    torch.manual_seed(0)
    config = ModelConfig(
        patch_size=4, embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), neighbourhood=(16, 16, 16, 16),
        decoder_dim=8, decoder_heads=1,
    )  # fmt: skip
    model = Segmenter(config, 2)
    normalisation = Normalisation(low=(0,), high=(255,), mean=(120,), std=(60,))
    model.card = ModelCard(normalisation=normalisation, classes=DEFAULT_CLASSES, tile=32)
    path = save_model(model, tmp_path / "model" / "model.safetensors")
    dock = make_dock()
    assert not dock.label.apply.apply.isEnabled()
    dock.images.folder.set_text(str(image_folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    assert "load a segmentation network" in dock.label.apply.apply.toolTip()
    dock.session.state.segmenter = Engine().read_model(path)
    dock.label.parts[1].open()
    return dock


def test_all_images_are_written_with_a_table(dock, click, wait_idle):
    part = dock.label.apply
    assert part.apply.text() == "Apply to 3 images"
    click(part.apply)
    wait_idle(dock, JOB)
    out = dock.session.project / "segmented-1"
    assert sorted(path.name for path in out.glob("*.tif")) == ["em_0.tif", "em_1.tif", "em_2.tif"]
    assert set(np.unique(tifffile.imread(out / "em_0.tif"))) <= {1, 2}
    with (out / "areas.csv").open(newline="", encoding="utf-8") as file:
        assert {row["image"] for row in csv.DictReader(file)} == {"em_0.png", "em_1.png", "em_2.png"}
    assert part.result.text().startswith("3 images written to")
    assert part.bar.isHidden()
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    click(part.apply)
    wait_idle(dock, JOB)
    for text in (part.result.text(), dock.status.text()):
        assert text == "All 3 were there already: tick “Replace results that are there already” to make them anew."
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.tif")} == times
    part.format.setCurrentIndex(1)
    click(part.apply)
    wait_idle(dock, JOB)
    assert (dock.session.project / "segmented-2" / "em_0.ome.zarr").is_dir(), "other settings go elsewhere"


def test_what_was_written_is_seen_in_the_list_and_on_each_image(dock, click, wait_idle, qtbot):
    def segmentation(name):
        found = [layer for layer in dock._viewer.layers if layer.name == f"{name} · segmentation"]
        return found[0].data if found else None

    first, second, _ = dock.session.state.images.records
    dock.session.opener.open(first)
    qtbot.waitUntil(lambda: first.name in dock._viewer.layers)
    dock.label.refine.on.setChecked(True)
    dock.label.refine.split.setValue(0.5)
    click(dock.label.apply.apply)
    wait_idle(dock, JOB)
    qtbot.waitUntil(lambda: dock.images.list.describe() == "3 predicted")
    assert segmentation(first.name) is not None
    dock.session.opener.open(second)
    qtbot.waitUntil(lambda: segmentation(second.name) is not None)
    model = dock.session.state.segmenter.path
    np.testing.assert_array_equal(segmentation(second.name), segment(model, second.load()).labels)
    qtbot.waitUntil(lambda: bool(dock.label.refine.table.objects) and dock.label.refine.table._name == second.name)
    with (dock.session.project / "segmented-1" / "instances.csv").open(newline="", encoding="utf-8") as file:
        written = [int(row["pixels"]) for row in csv.DictReader(file) if row["image"] == second.name]
    assert [one.pixels for one in dock.label.refine.table.objects] == written


def test_what_was_accepted_stays_as_it_is(dock, click, wait_idle, qtbot):
    first = dock.session.state.images.records[0]
    dock.session.opener.open(first)
    qtbot.waitUntil(lambda: first.name in dock._viewer.layers)
    click(dock.label.apply.apply)
    wait_idle(dock, JOB)
    [layer] = [layer for layer in dock._viewer.layers if layer.name == f"{first.name} · segmentation"]
    layer.data = np.full_like(layer.data, 1)  # mended by hand
    qtbot.waitUntil(lambda: dock.label.image.accept.isEnabled())
    click(dock.label.image.accept)
    certainty = dock.session.keeper.certainty_of(first.name)
    kept = certainty.stat()
    dock.label.apply.overwrite.setChecked(True)
    click(dock.label.apply.apply)
    wait_idle(dock, JOB)
    qtbot.waitUntil(lambda: dock.images.list.describe() == "1 accepted, 2 predicted")
    assert (layer.data == 1).all()
    assert certainty.stat() == kept


def test_stop_keeps_what_is_finished_and_apply_goes_on(dock, click, wait_idle, qtbot):
    part = dock.label.apply
    seen = []
    dock.session.event.connect(lambda event: seen.append(type(event).__name__))
    click(part.apply)
    qtbot.waitUntil(lambda: not part.bar.isHidden() and "Progress" in seen, timeout=JOB)
    assert part.format.isEnabled() == dock.session.state.idle, "what is chosen now would change nothing"
    if part.stop.isEnabled():
        click(part.stop)
    wait_idle(dock, JOB)
    assert part.format.isEnabled()
    out = dock.session.project / "segmented-1"
    first = {path: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    assert all(path.stat().st_size > 64 * 96 for path in first)
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "nothing half-written stays"
    click(part.apply)
    wait_idle(dock, JOB)
    assert len(list(out.glob("*.tif"))) == 3
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(list(dock.session.project.glob("segmented-*"))) == 1


def test_a_strangers_file_is_an_error_that_says_what_to_do(dock, click, wait_idle, tmp_path, qtbot):
    part = dock.label.apply
    out = tmp_path / "mine"
    out.mkdir()
    (out / "em_1.tif").write_text("precious")
    part.folder.set_text(str(out))
    click(part.apply)
    wait_idle(dock, JOB)
    assert "em_1.tif is there already" in dock.status.text()
    assert "overwrite" in dock.status.text()
    assert (out / "em_1.tif").read_text() == "precious"
    part.overwrite.setChecked(True)
    click(part.apply)
    wait_idle(dock, JOB)
    assert tifffile.imread(out / "em_1.tif").shape == (64, 96)
    assert not part.overwrite.isChecked(), "replacing is asked for each time"


def test_the_refinement_that_is_switched_on_is_applied_to_all(dock, click, wait_idle):
    dock.label.parts[0].open()
    dock.label.refine.specks.setValue(30)
    dock.label.refine.on.setChecked(True)
    click(dock.label.apply.apply)
    wait_idle(dock, JOB)
    out = dock.session.project / "segmented-1"
    assert "areas.csv and instances.csv" in dock.label.apply.result.text()
    assert (out / "instances.csv").is_file()
    assert (out / "em_0_instances.tif").is_file()
    assert '"specks": 30' in (out / "segment.jsonl").read_text()
