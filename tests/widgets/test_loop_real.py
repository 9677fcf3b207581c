"""The dock from folder to segmentation with the real engine, real clicks, and the viewer as a plugin gets it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_affmae.data.scribbles import scribbles
from napari_affmae.data.synthetic import SYNTHETIC_PAINT, SYNTHETIC_PIXEL_SIZE, synthetic_em
from napari_affmae.data.write import write_labels_tiff
from napari_affmae.model_places import runs
from napari_affmae.widgets.dock import AffmaeDock
from napari_affmae.widgets.kinds import KIND, Kind
from napari_affmae.widgets.state import Phase

SIDE = 96
JOB = 120_000


@pytest.fixture
def folder(tmp_path):
    for seed in range(2):
        write_labels_tiff(tmp_path / f"section_{seed}.tif", synthetic_em(SIDE, seed)[0], SYNTHETIC_PIXEL_SIZE)
    (tmp_path / "broken.tif").write_bytes(b"no image")
    return tmp_path


@pytest.mark.slow
def test_from_folder_to_segmentation(make_napari_viewer_proxy, folder, click, wait_idle, qtbot):
    viewer = make_napari_viewer_proxy()
    dock = AffmaeDock(viewer)
    viewer.window.add_dock_widget(dock, name="AFFMAE", area="right")
    for section in dock.sections:
        section.open()
    dock.images.folder.line.setFocus()
    qtbot.keyClicks(dock.images.folder.line, str(folder))
    qtbot.keyClick(dock.images.folder.line, Qt.Key.Key_Return)
    wait_idle(dock)
    assert len(dock.session.state.images) == 2
    assert "broken.tif" in dock.images.skipped.item(0).text()
    item = dock.images.list.item(0)
    center = dock.images.list.visualItemRect(item).center()
    qtbot.mouseClick(dock.images.list.viewport(), Qt.MouseButton.LeftButton, pos=center)
    qtbot.waitUntil(lambda: dock.session.state.image is not None, timeout=5000)

    dock.pretrain.project.set_text(str(folder / "project"))
    dock.pretrain.tile.setCurrentIndex(dock.pretrain.tile.findData(64))
    dock.pretrain.minutes.setValue(0.1)
    dock.pretrain.device.setCurrentIndex(dock.pretrain.device.findData("cpu"))
    click(dock.pretrain.start)
    wait_idle(dock, JOB)
    assert dock.session.state.pretrained is not None, dock.status.text()
    assert (folder / "project" / "pretrain-1" / "model.safetensors").is_file()
    assert dock.pretrain.curve.points()[1]
    previews = [layer for layer in viewer.layers if layer.metadata.get(KIND) in (Kind.MASKED, Kind.RECONSTRUCTION)]
    assert len(previews) == 2

    dock.session.state.classes = SYNTHETIC_PAINT
    click(dock.label.paint)
    paint = viewer.layers["section_0.tif · paint"]
    paint.data = scribbles(synthetic_em(SIDE, 0)[1], 0.1)
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=2000)
    dock.label.minutes.setValue(0.1)
    click(dock.label.train)
    wait_idle(dock, JOB)
    assert dock.session.state.segmenter is not None, dock.status.text()
    assert "IoU" in dock.label.score.text()

    click(dock.label.segment)
    wait_idle(dock, JOB)
    image = viewer.layers["section_0.tif"]
    segmentation = viewer.layers["section_0.tif · segmentation"]
    assert segmentation.data.shape == (SIDE, SIDE)
    assert set(np.unique(segmentation.data)) <= {info.id for info in SYNTHETIC_PAINT}
    np.testing.assert_array_equal(segmentation.scale, image.scale)
    assert segmentation.units == image.units

    for button in (dock.look.tokens, dock.look.merge_map, dock.look.density, dock.look.pca):
        click(button)
        wait_idle(dock, JOB)
    tokens = viewer.layers["section_0.tif · tokens stage 2"]
    assert np.asarray(tokens.features["area"]).sum() == SIDE * SIDE
    assert viewer.layers["section_0.tif · PCA stage 2"].data.shape == (SIDE, SIDE, 3)
    dock.shut_down()


@pytest.mark.slow
def test_stopped_training_goes_on_where_it_was_unless_the_paint_is_another(
    make_napari_viewer_proxy, folder, click, wait_idle, qtbot
):
    viewer = make_napari_viewer_proxy()
    dock = AffmaeDock(viewer)
    viewer.window.add_dock_widget(dock, name="AFFMAE", area="right")
    dock.pretrain.preset.setCurrentIndex(dock.pretrain.preset.findData("tiny"))
    dock.pretrain.device.setCurrentIndex(dock.pretrain.device.findData("cpu"))
    dock.images.folder.set_text(str(folder))
    click(dock.images.scan)
    wait_idle(dock)
    dock.session.opener.open(dock.session.state.images.records[0])
    qtbot.waitUntil(lambda: dock.session.state.image is not None, timeout=5000)
    dock.session.state.classes = SYNTHETIC_PAINT
    click(dock.label.paint)
    layer = viewer.layers["section_0.tif · paint"]
    layer.data = scribbles(synthetic_em(SIDE, 0)[1], 0.1)
    dock.label.from_scratch.setChecked(True)
    qtbot.waitUntil(dock.label.train.isEnabled, timeout=2000)
    dock.label.minutes.setValue(60)

    def train_a_little(button) -> int:
        click(button)
        qtbot.waitUntil(lambda: dock.session.state.phase is Phase.RUNNING and dock.label.bar.value() > 0, timeout=JOB)
        click(dock.label.stop)
        wait_idle(dock, JOB)
        return last_step(dock.session.project / "finetune-1")

    first = train_a_little(dock.label.train)
    second = train_a_little(dock.label.pause)
    assert second > first
    assert [one.name for one in runs(dock.session.project, "finetune")] == ["finetune-1"]

    layer.paint((SIDE // 2, SIDE // 2), 1)
    click(dock.label.pause)
    wait_idle(dock, JOB)
    assert "click Train to start anew" in dock.status.text()
    assert last_step(dock.session.project / "finetune-1") == second, "nothing was done to the run"
    dock.shut_down()


def last_step(run) -> int:
    return json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"]
