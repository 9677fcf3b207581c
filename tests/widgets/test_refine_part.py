"""Refinement in the dock: a layer of its own that follows the settings and goes away when it is switched off."""

from __future__ import annotations

import csv
import threading
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog
from skimage.draw import disk

from napari_affmae.card import ModelCard
from napari_affmae.events import Done, LivePrediction
from napari_affmae.widgets import refine_part
from napari_affmae.widgets.kinds import KIND, Kind
from napari_affmae.widgets.object_table import file_name_of
from napari_affmae.widgets.refine_job import refine_job
from napari_affmae.widgets.state import DEFAULT_CLASSES, ModelOnDisk


def two_discs_and_a_speck() -> np.ndarray:
    pixels = np.full((60, 80), 10.0)
    for centre in ((30, 25), (30, 46)):
        pixels[disk(centre, 12)] = 200
    pixels[5, 70:72] = 200
    # The fake engine takes what is above the median for an object.
    pixels[50:] -= 5
    return pixels


@pytest.fixture
def dock(make_dock, engine, click, wait_idle, qtbot):
    """A dock with a segmented image, its refine part open."""
    dock = make_dock()
    path = Path("model.safetensors")
    engine.models[path] = ModelOnDisk(path, 1, 2, ModelCard(classes=DEFAULT_CLASSES))
    dock._viewer.add_image(two_discs_and_a_speck(), name="cells", scale=(0.5, 0.25), translate=(3, 4), units=("um", "um"))
    dock.session.state.segmenter = engine.models[path]
    click(dock.label.segment)
    wait_idle(dock)
    dock.label.parts[0].open()
    part = dock.label.refine
    for spin, value in ((part.specks, 5), (part.holes, 0), (part.split, 2.0)):
        spin.setValue(value)
    return dock


def layer_of(dock, kind):
    found = [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == kind]
    return found[0] if found else None


def switch(dock, qtbot):
    box = dock.label.refine.on
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))


def test_on_shows_a_layer_of_its_own_and_off_takes_it_back(dock, qtbot):
    plain = layer_of(dock, Kind.SEGMENTATION)
    before = np.array(plain.data)
    assert layer_of(dock, Kind.REFINED) is None
    switch(dock, qtbot)
    qtbot.waitUntil(lambda: layer_of(dock, Kind.REFINED) is not None, timeout=20_000)
    refined, objects = layer_of(dock, Kind.REFINED), layer_of(dock, Kind.INSTANCES)
    np.testing.assert_array_equal(plain.data, before)
    assert not plain.visible
    assert refined.visible
    assert (before[5, 70:72] == 2).all()
    assert (refined.data[5, 70:72] == 1).all(), "the speck is gone"
    assert objects.data.max() == 2, "the discs are told apart"
    for layer in (refined, objects):
        np.testing.assert_array_equal(layer.scale, (0.5, 0.25))
        np.testing.assert_array_equal(layer.translate, (3, 4))
    part = dock.label.refine
    assert "2 objects" in part.hint.text()
    assert not part.table.isHidden()
    texts = [part.table.grid.item(0, column).text() for column in range(4)]
    assert texts[:2] == ["structure", "2"]
    assert texts[3] == f"{np.count_nonzero(objects.data) * 0.125:.4g} µm²"
    switch(dock, qtbot)
    assert layer_of(dock, Kind.REFINED) is None
    assert layer_of(dock, Kind.INSTANCES) is None
    assert plain.visible
    assert part.table.isHidden()


def test_the_line_and_the_layer_come_together(dock, qtbot, monkeypatch):
    """However late the worker's end is heard, for example on a busy machine."""
    over = threading.Event()

    def lingering(*arguments):
        def job(control):
            yield from refine_job(*arguments)(control)
            over.wait(20)

        return job

    monkeypatch.setattr(refine_part, "refine_job", lingering)
    switch(dock, qtbot)
    part = dock.label.refine
    assert part.hint.text() == "Refining …"
    qtbot.waitUntil(lambda: layer_of(dock, Kind.REFINED) is not None, timeout=20_000)
    assert part._runner.running
    assert "2 objects" in part.hint.text()
    over.set()
    qtbot.waitUntil(lambda: not part._runner.running, timeout=20_000)
    assert "2 objects" in part.hint.text()


def test_it_follows_settings_and_new_segmentations(dock, qtbot, click, wait_idle):
    switch(dock, qtbot)
    qtbot.waitUntil(lambda: layer_of(dock, Kind.REFINED) is not None, timeout=20_000)
    refined = layer_of(dock, Kind.REFINED)
    dock.label.refine.specks.setValue(0)
    qtbot.waitUntil(lambda: (refined.data[5, 70:72] == 2).all(), timeout=20_000)
    assert layer_of(dock, Kind.REFINED) is refined, "it is updated in place"
    dock.label.refine.split.setValue(0)
    qtbot.waitUntil(lambda: len(dock.label.refine.table.objects) == 2, timeout=20_000)  # both discs as one, and the speck
    assert dock.session.settings.refinement.split == 0
    dock._viewer.layers["cells"].data = 255 - dock._viewer.layers["cells"].data
    click(dock.label.segment)
    wait_idle(dock)
    qtbot.waitUntil(lambda: refined.data[30, 25] == 1, timeout=20_000)


def test_a_segmentation_holds_the_same_objects_when_the_dock_is_opened_again(dock, engine, make_dock, qtbot, click, wait_idle):
    """And so what is counted here is what Apply to all writes."""
    segment = engine.segment

    def unsure(*arguments, **given):
        for event in segment(*arguments, **given):
            if isinstance(event, Done):
                event.result.probabilities[:, :, 24:27] *= 0.4  # through the middle of a disc
            yield event

    engine.segment = unsure
    click(dock.label.segment)
    wait_idle(dock)
    switch(dock, qtbot)
    qtbot.waitUntil(lambda: layer_of(dock, Kind.INSTANCES) is not None, timeout=20_000)
    before = np.array(layer_of(dock, Kind.INSTANCES).data)
    assert before.max() == 3
    switch(dock, qtbot)
    dock.shut_down()
    again = make_dock(dock._viewer)
    again.label.refine.on.setChecked(True)
    qtbot.waitUntil(lambda: layer_of(again, Kind.INSTANCES) is not None, timeout=5_000)
    np.testing.assert_array_equal(layer_of(again, Kind.INSTANCES).data, before)
    assert "by shape" not in again.label.refine.hint.text()


def test_before_there_is_anything_to_refine_it_says_so(make_dock, qtbot):
    dock = make_dock()
    dock._viewer.add_image(two_discs_and_a_speck(), name="cells")
    dock.label.parts[0].open()
    switch(dock, qtbot)
    assert "Segment the image first" in dock.label.refine.hint.text()


def test_the_list_of_objects_is_saved(dock, qtbot, click, tmp_path, monkeypatch):
    switch(dock, qtbot)
    qtbot.waitUntil(lambda: dock.label.refine.table.isVisibleTo(dock), timeout=20_000)
    proposed = []

    def choose(parent, title, start, kinds):
        proposed.append(Path(start).name)
        return str(tmp_path / "objects.csv"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    click(dock.label.refine.table.save)
    assert proposed == ["cells_objects.csv"]
    with (tmp_path / "objects.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["structure", "structure"]
    assert float(rows[0]["area"]) == pytest.approx(int(rows[0]["pixels"]) * 0.125)
    assert rows[0]["area_unit"] == "micrometer^2"
    grid = dock.label.refine.table.grid
    for column in range(1, 4):
        assert grid.horizontalHeaderItem(column).textAlignment() == grid.item(0, column).textAlignment()


@pytest.mark.parametrize(("image", "file"), [("a.b.ome.tif", "a.b_objects.csv"), ("sub/stack.tif[3]", "stack_3_objects.csv")])
def test_a_list_of_objects_is_called_like_its_image_without_the_suffix(image, file):
    assert file_name_of(image) == file


def test_closing_while_it_refines_leaves_nothing_running(dock, qtbot):
    switch(dock, qtbot)
    dock.shut_down()
    assert not dock.label.refine._runner.running


def test_it_follows_what_live_mode_predicts(dock, engine, qtbot, monkeypatch):
    known = []
    refine = engine.refine
    monkeypatch.setattr(engine, "refine", lambda *words: known.append(words[3]) or refine(*words))
    switch(dock, qtbot)
    qtbot.waitUntil(lambda: layer_of(dock, Kind.REFINED) is not None, timeout=20_000)
    plane = dock.session.layers.current()
    labels = np.ones((60, 80), np.uint8)
    labels[10:30, 10:30] = 2
    part = LivePrediction("live", 1, plane.name, 0, 0, labels, True)
    dock.session.layers.show_parts(plane, [part], DEFAULT_CLASSES)
    qtbot.waitUntil(lambda: np.array_equal(layer_of(dock, Kind.REFINED).data, labels), timeout=20_000)
    assert known[0] is not None
    assert known[-1] is None, "what is kept is of other labels"
    assert "by shape alone" in dock.label.refine.hint.text()


def test_what_comes_late_is_not_shown_on_another_image(dock, engine, qtbot, monkeypatch):
    going_on = threading.Event()
    refine = engine.refine
    monkeypatch.setattr(engine, "refine", lambda *words: going_on.wait(20) and refine(*words))
    switch(dock, qtbot)
    other = dock._viewer.add_image(np.zeros((60, 80)), name="other")
    dock._viewer.layers.selection.active = other
    qtbot.wait(2 * dock.label.refine._timer.interval())
    going_on.set()
    qtbot.waitUntil(lambda: not dock.label.refine._runner.running, timeout=20_000)
    assert layer_of(dock, Kind.REFINED) is None
    assert dock.label.refine.table.isHidden()
    dock._viewer.layers.selection.active = dock._viewer.layers["cells"]
    qtbot.waitUntil(lambda: layer_of(dock, Kind.REFINED) is not None, timeout=20_000)
