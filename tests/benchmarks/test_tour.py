"""The hand of the tutorial draws where it means to, and never out of the region."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from qtpy.QtWidgets import QPushButton
from scipy import ndimage


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "tour"]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"tour.{name}")


def blobs(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random((60, 90))
    return ndimage.gaussian_filter(noise, 4) > 0.5


def brushed(ends, shape, brush):
    """What a round brush paints between two points."""
    rows, columns = (np.linspace(*pair, 200) for pair in zip(*ends, strict=True))
    drawn = np.ones(shape, bool)
    drawn[np.rint(rows).astype(int), np.rint(columns).astype(int)] = False
    return ndimage.distance_transform_edt(drawn) <= brush / 2


@pytest.mark.parametrize("seed", range(8))
def test_a_stroke_starts_in_its_region_and_stays_within_the_other(seed):
    within = blobs(seed)
    region = within.copy()
    region[:, 45:] = False
    ends = module("strokes").stroke_in(region, within, 5)
    assert not (brushed(ends, within.shape, 5) & ~within).any()
    assert (brushed(ends, within.shape, 5) & region).any()


def test_there_is_no_stroke_without_room():
    thin = np.zeros((20, 20), bool)
    thin[10] = True
    assert module("strokes").stroke_in(thin, thin, 6) is None
    assert module("strokes").stroke_in(np.zeros_like(thin), thin, 1) is None


def test_the_largest_error_is_one_connected_part():
    wrong = np.zeros((40, 40), bool)
    wrong[2:6, 2:38] = True  # long, but thin
    wrong[20:34, 20:34] = True
    found = module("strokes").largest_error(wrong)
    assert found.sum() == 14 * 14
    assert found[21, 21]


def test_the_hand_draws_between_the_pixels_it_is_given(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    hand = module("hand").Hand(viewer, longest=10)
    layer = viewer.add_labels(np.zeros((60, 80), np.uint8), scale=(2, 2), translate=(5, 7))
    layer.mode, layer.brush_size, layer.selected_label = "paint", 3, 1
    hand.wait(0.2)
    hand.look_at(layer, 0, 0, 60, 80)
    hand.stroke(layer, [(10, 10), (10, 60), (40, 60)])
    rows, columns = np.nonzero(layer.data)
    assert abs(rows.min() - 9) <= 1
    assert abs(rows.max() - 41) <= 1
    assert abs(columns.min() - 9) <= 1
    assert abs(columns.max() - 61) <= 1
    assert layer.data[10, 35] == layer.data[25, 60] == 1


def test_a_dead_button_says_why(make_napari_viewer, qtbot):
    button = QPushButton()
    qtbot.addWidget(button)
    button.setEnabled(False)
    button.setToolTip("Open an image first.")
    with pytest.raises(RuntimeError, match="Open an image first"):
        module("hand").Hand(make_napari_viewer()).click(button)
