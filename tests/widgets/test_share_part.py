"""Sharing in the dock: the model's card, and the package for other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_affmae.card import ClassInfo, ModelCard
from napari_affmae.errors import ModelFileError
from napari_affmae.model_report import ModelReport, TrainingReport
from napari_affmae.widgets.state import ModelOnDisk

CLASSES = (ClassInfo(id=1, name="background", color="#0072b2"), ClassInfo(id=2, name="structure", color="#e69f00"))


@pytest.fixture
def dock(make_dock, engine, wait_idle, tmp_path):
    """A dock that has loaded a segmenter."""
    dock = make_dock()
    path = tmp_path / "run" / "model.safetensors"
    engine.models[path] = ModelOnDisk(path, 1, 2, ModelCard(classes=CLASSES))
    dock.load_model(path)
    wait_idle(dock)
    for part in dock.label.parts:
        part.open()
    return dock


def type_into(qtbot, field, text: str) -> None:
    field.clear()
    qtbot.keyClicks(field, text)


def test_the_card_shows_curve_and_score_newest_first(dock, click) -> None:
    for button in (dock.pretrain.about, dock.label.about):
        click(button)
        dialog = button.dialog
        assert dialog.isVisible()
        (curve,) = dialog.curves
        assert curve.points()[0] == list(range(1, 31))
        assert [(bar.value(), bar.format()) for bar in dialog.bars] == [(900, "0.90"), (500, "0.50")]
        click(dialog.copy)
        text = QApplication.clipboard().text()
        assert text.index("Pretrained on 3 images") < text.index("mIoU 0.70")
        (close,) = [one for one in dialog.buttons.buttons() if one.text() == "Close"]
        click(close)
        assert not dialog.isVisible()


def test_the_card_of_a_live_model_counts_rounds(dock, engine, click, monkeypatch) -> None:
    live = TrainingReport(
        "live", "Trained live", (("rounds", "3"),), (1, 2, 3), (0.5, 0.3, 0.2), None, frozenset(), unit="round"
    )
    monkeypatch.setattr(engine, "model_report", lambda path: ModelReport(path, "Segmentation network", (), (live,)))
    click(dock.label.about)
    (curve,) = dock.label.about.dialog.curves
    assert curve.points() == ([1, 2, 3], [0.5, 0.3, 0.2])
    axis = curve.plot.getAxis("bottom")
    assert axis.labelText == "round"
    assert all(step >= 1 for step, _ in axis.tickSpacing(1, 3, 400))
    assert dock.pretrain.curve.plot.getAxis("bottom").labelText == "step"
    dock.label.about.dialog.close()


def test_a_card_that_cannot_be_read_is_an_error_in_words(dock, engine, click) -> None:
    engine.fail_with = ModelFileError("the file is gone: copy it again")
    click(dock.label.about)
    assert dock.label.about.dialog is None
    assert dock.status.text() == "The file is gone: copy it again."


def test_without_a_model_there_is_nothing_to_share(make_dock) -> None:
    dock = make_dock()
    assert not dock.label.about.isEnabled()
    assert dock.pretrain.about.isHidden()
    assert not dock.label.share.export.isEnabled()
    assert "no segmentation network yet" in dock.label.share.export.toolTip()


def test_without_the_library_the_button_says_what_to_install(make_dock, engine, wait_idle, tmp_path) -> None:
    engine.missing = 'pip install "napari-affmae[bioimageio]"'
    dock = make_dock()
    dock.session.state.segmenter = ModelOnDisk(tmp_path / "m.safetensors", 1, 2, ModelCard(classes=CLASSES))
    assert not dock.label.share.export.isEnabled()
    assert dock.label.share.export.toolTip() == engine.missing


def test_export_takes_what_was_typed_and_says_where_the_package_is(
    dock, engine, click, qtbot, wait_idle, tmp_path, monkeypatch
) -> None:
    share = dock.label.share
    out = tmp_path / "mine.zip"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *arguments: (str(out), ""))
    type_into(qtbot, share.name, "My cells")
    type_into(qtbot, share.authors, "Ada Lovelace; Analytical Institute | Charles B.")
    type_into(qtbot, share.cite, "Doe 2026, 10.1234/abc")
    click(share.export)
    assert not share.bar.isHidden()
    wait_idle(dock)
    ((model, path, config, sample),) = engine.exported
    assert (model, path, sample) == (dock.session.state.segmenter.path, out, None)
    assert config.name == "My cells"
    assert config.authors == ("Ada Lovelace; Analytical Institute", "Charles B.")
    assert config.cite == ("Doe 2026, 10.1234/abc",)
    assert config.licence == "CC-BY-4.0"
    assert str(out) in share.result.text()
    assert "without napari" in share.result.text()
    assert share.bar.isHidden()
    # The next dock knows who the authors are.
    assert dock.session.store.load().export_authors.startswith("Ada Lovelace")


def test_the_shown_image_is_given_away_only_if_the_user_says_so(dock, engine, click, qtbot, wait_idle, tmp_path) -> None:
    share = dock.label.share
    assert not share.example.isEnabled()
    dock.session.viewer.add_image(np.zeros((40, 50), np.uint8), name="cells")
    assert share.example.isEnabled()
    share.export_to(tmp_path / "a.zip")
    wait_idle(dock)
    qtbot.mouseClick(share.example, Qt.MouseButton.LeftButton, pos=QPoint(8, share.example.height() // 2))
    share.export_to(tmp_path / "b.zip")
    wait_idle(dock)
    assert [None if entry[3] is None else entry[3].name for entry in engine.exported] == [None, "cells"]


def test_stopping_and_failing_leave_the_part_ready(dock, engine, click, qtbot, wait_idle, tmp_path: Path) -> None:
    share = dock.label.share
    engine.steps, engine.step_seconds = 2000, 0.005
    share.export_to(tmp_path / "a.zip")
    qtbot.waitUntil(share.stop.isEnabled)
    assert not share.authors.isEnabled(), "what is typed now would change nothing"
    click(share.stop)
    wait_idle(dock)
    assert share.authors.isEnabled()
    assert share.result.text() == ""
    assert "nothing was written" in dock.status.text()
    engine.fail_with = ModelFileError("give an image to take statistics from")
    share.export_to(tmp_path / "a.zip")
    wait_idle(dock)
    assert dock.status.text() == "Give an image to take statistics from."
    assert share.export.isEnabled()
    assert share.bar.isHidden()
