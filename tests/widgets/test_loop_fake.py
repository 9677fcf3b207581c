"""The dock from folder to segmentation, with real clicks on a fake engine."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt

from napari_affmae.widgets.kinds import GROUP, KIND, Kind


def kinds(viewer):
    return {layer.metadata[KIND] for layer in viewer.layers if KIND in layer.metadata}


def read_folder(dock, folder, click, wait_idle):
    dock.images.folder.set_text(str(folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)


def open_first(dock, qtbot):
    item = dock.images.list.item(0)
    where = dock.images.list.visualItemRect(item).center()
    qtbot.mouseClick(dock.images.list.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(where))
    qtbot.waitUntil(lambda: dock.session.state.image is not None, timeout=5000)


def paint(dock, click):
    """Paint a square of each of the two classes with the brush of the layer."""
    click(dock.label.paint)
    layer = dock.session.layers.paint_layer("em_0.png")
    for place, info in enumerate(dock.session.state.classes):
        dock.label.classes.selectRow(place)
        assert layer.selected_label == info.id
        assert layer.mode == "paint"
        for column in range(10, 50, 4):
            layer.paint((15 + 30 * place, column), layer.selected_label)
    return layer


def test_from_folder_to_segmentation(make_dock, image_folder, engine, click, wait_idle, qtbot):
    dock = make_dock()
    viewer = dock._viewer
    assert not dock.pretrain.start.isEnabled()
    assert "step 1" in dock.pretrain.start.toolTip()
    read_folder(dock, image_folder, click, wait_idle)
    assert "3 images" in dock.images.summary.text()
    assert "broken.png" in dock.images.skipped.item(0).text()

    click(dock.pretrain.start)
    wait_idle(dock)
    assert {Kind.MASKED, Kind.RECONSTRUCTION} <= kinds(viewer)
    assert dock.pretrain.curve.points()[0][-1] == engine.steps
    assert "Finished" in dock.status.text()
    assert "step 3" in dock.status.text(), "it says what comes next"

    open_first(dock, qtbot)
    assert not dock.label.train.isEnabled()
    layer = paint(dock, click)
    assert dock.label.train.isEnabled()
    assert set(dock.session.state.painted) == {1, 2}

    click(dock.label.train)
    wait_idle(dock)
    [example] = engine.examples
    assert example.record.name == "em_0.png"
    np.testing.assert_array_equal(example.labels, layer.data)
    assert "0.71" in dock.label.score.text()

    click(dock.label.segment)
    wait_idle(dock)
    [segmentation] = [one for one in viewer.layers if one.metadata.get(KIND) == Kind.SEGMENTATION]
    assert set(np.unique(segmentation.data)) == {1, 2}
    before = segmentation
    click(dock.label.segment)
    wait_idle(dock)
    [after] = [one for one in viewer.layers if one.metadata.get(KIND) == Kind.SEGMENTATION]
    assert after is before, "a segmentation is updated in place"

    for button in (dock.look.tokens, dock.look.merge_map, dock.look.density, dock.look.pca):
        click(button)
        wait_idle(dock)
    assert engine.calls.count("inspect") == 1, "one run of the network serves all views of an image"
    assert {Kind.TOKENS, Kind.MERGE_MAP, Kind.DENSITY, Kind.PCA} <= kinds(viewer)
    groups = [layer.metadata.get(GROUP, layer.name) for layer in viewer.layers]
    assert groups == sorted(groups, key=groups.index), "the layers of an image stand together"


def test_the_dock_answers_whether_pretraining_helped(make_dock, image_folder, engine, click, wait_idle, qtbot):
    dock = make_dock()
    part = dock.label.compare
    assert not part.begin.isEnabled()
    assert "Pretrain in step 2" in part.begin.toolTip()
    read_folder(dock, image_folder, click, wait_idle)
    click(dock.pretrain.start)
    wait_idle(dock)
    open_first(dock, qtbot)
    assert not part.begin.isEnabled()
    layer = paint(dock, click)
    assert not part.stop.isVisibleTo(part)
    engine.step_seconds = 0.05
    click(part.begin)
    qtbot.waitUntil(lambda: part.bar.isVisibleTo(part) and part.bar.value() > 0, timeout=5000)
    assert part.stop.isEnabled()
    assert not dock.label.train.isEnabled()
    click(part.stop)
    wait_idle(dock)
    assert not part.verdict.text()
    assert not part.bar.isVisibleTo(part)

    engine.step_seconds = 0.005
    click(part.begin)
    wait_idle(dock)
    assert "0.71 from the pretrained network, 0.55 from scratch" in part.verdict.text()
    assert "neither is the one in use" in part.verdict.text(), "whose score may be another one"
    assert "0.71" not in dock.status.text(), "it is read once"
    np.testing.assert_array_equal(engine.examples[0].labels, layer.data)
    assert dock.session.state.segmenter is None
    assert part.begin.isEnabled()


def test_training_is_paused_stopped_and_taken_up(make_dock, image_folder, engine, click, wait_idle, qtbot):
    dock = make_dock()
    step2, step3 = dock.pretrain, dock.label
    read_folder(dock, image_folder, click, wait_idle)
    open_first(dock, qtbot)
    paint(dock, click)
    assert not step3.pause.isEnabled()
    engine.steps, engine.step_seconds = 10_000, 0.01
    step3.from_scratch.setChecked(True)
    click(step3.train)
    qtbot.waitUntil(lambda: step3.bar.value() > 0, timeout=5000)
    assert not step2.pause.isEnabled(), "it pauses pretraining"
    click(step3.pause)
    assert step3.pause.text() == "Resume"
    assert step2.pause.text() == "Pause"
    qtbot.wait(200)
    held = step3.bar.value()
    qtbot.wait(300)
    assert step3.bar.value() <= held + 1
    click(step3.pause)
    qtbot.waitUntil(lambda: step3.bar.value() > held + 1, timeout=5000)
    click(step3.stop)
    wait_idle(dock)
    assert step3.pause.text() == "Resume"
    assert "finetune-1" in step3.pause.toolTip()
    step3.from_scratch.setChecked(False)
    step3.minutes.setValue(77)
    [config] = engine.finetune_configs
    engine.steps = 5
    click(step3.pause)
    wait_idle(dock)
    assert engine.calls == ["finetune scratch:tiny", "resume scratch:tiny"], "with what it was started from"
    assert engine.finetune_configs == [config, config]
    assert not step3.pause.isEnabled()
    assert step3.pause.text() == "Pause"
