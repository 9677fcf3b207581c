"""The demo with training of a few seconds: every step of the loop, every file it promises."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile
from skimage.io import imread

from napari_affmae.errors import StorageError
from napari_affmae.widgets import demo, settings_store


@pytest.fixture
def quick(monkeypatch, tmp_path):
    # No test reads or writes the user's settings or home.
    monkeypatch.setattr(settings_store, "default_path", lambda: tmp_path / "settings" / "dock.json")
    monkeypatch.setattr("napari_affmae.widgets.project.Path.home", lambda: tmp_path / "home")
    for name, value in {"IMAGES": 2, "SIZE": 128, "TILE": 64, "PRETRAIN_MINUTES": 0.05, "FINETUNE_MINUTES": 0.05}.items():
        monkeypatch.setattr(demo, name, value)


@pytest.mark.slow
def test_the_demo_writes_what_it_promises(quick, make_napari_viewer, monkeypatch, tmp_path):
    monkeypatch.setattr("napari.Viewer", lambda title: make_napari_viewer(show=True))
    out = tmp_path / "demo-out"
    summary = demo.run_demo(out, headless=True)
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["pretrain_steps"] > 0
    assert summary["finetune_steps"] > 0
    for figures in (summary["iou_painted_image"], summary["iou_unseen_image"]):
        assert set(figures) == {"cytoplasm", "membrane", "mitochondrion", "mean"}
        assert all(0 <= value <= 1 for value in figures.values())
    window = imread(out / "screenshot.png")
    assert window.shape[0] > 500
    assert len(np.unique(window[..., :3].reshape(-1, 3), axis=0)) > 500, "a picture, not an empty window"
    files = sorted(path.name for path in out.iterdir())
    assert files == [
        "pretraining-masked-input.tif",
        "pretraining-reconstruction.tif",
        "screenshot.png",
        "section_00.tif",
        "section_00.tif-PCA-decoder.tif",
        "section_00.tif-merge-map-stage-3.tif",
        "section_00.tif-paint.tif",
        "section_00.tif-segmentation.tif",
        "section_00.tif-tokens-stage-3.csv",
        "section_00.tif-uncertainty.tif",
        "summary.json",
    ]
    paint = tifffile.imread(out / "section_00.tif-paint.tif")
    assert summary["painted_pixels"] == np.count_nonzero(paint)
    with (out / "section_00.tif-tokens-stage-3.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["area"]) for row in rows) == 128 * 128


def test_without_a_screen_the_demo_says_what_to_do(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StorageError, match="xvfb-run"):
        demo.run_demo(None, headless=True)


def test_a_perfect_segmentation_scores_one():
    truth = np.array([[0, 1], [2, 2]])
    assert demo.intersection_over_union(truth + 1, truth)["mean"] == 1
    assert demo.intersection_over_union(np.ones((2, 2)), truth) == {
        "cytoplasm": 0.25,
        "membrane": 0,
        "mitochondrion": 0,
        "mean": 0.083,
    }
