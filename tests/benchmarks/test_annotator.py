"""The scripted annotator paints by the truth where the prediction is most wrong, and its file can be drawn."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("sklearn")


@pytest.fixture
def annotator(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, which finds the modules beside it as when it is run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield importlib.import_module("annotator")
    for name in [name for name in sys.modules if name == "annotator" or name.split(".")[0] == "comparison"]:
        del sys.modules[name]


@pytest.fixture
def truth() -> np.ndarray:
    truth = np.zeros((80, 80), np.uint8)
    truth[10:40, 10:40], truth[50:60, 50:60] = 1, 1
    return truth


def test_the_largest_connected_error_is_found(annotator: ModuleType, truth: np.ndarray) -> None:
    region, class_id = annotator.largest_error(np.zeros_like(truth), truth)
    assert class_id == 1
    expected = np.zeros(truth.shape, bool)
    expected[10:40, 10:40] = True
    np.testing.assert_array_equal(region, expected)


def test_paint_is_true_and_grows_where_the_answer_is_wrong(annotator: ModuleType, truth: np.ndarray) -> None:
    seen = []

    def answer(paint: np.ndarray) -> tuple[list[np.ndarray], dict[str, float]]:
        seen.append(paint)
        return [np.zeros_like(truth), truth], {}

    dataset = annotator.DATASETS["em_isbi2012"]
    lines = list(annotator.annotate(answer, [truth, truth], dataset, 5, seed=0))
    assert [line["strokes"] for line in lines] == [2, 3, 4, 5]
    assert all(line["other"] == 1 for line in lines)
    assert lines[0]["painted"] < 0.5
    for paint in seen:
        painted = paint > 0
        np.testing.assert_array_equal(paint[painted], truth[painted] + 1)
    last = seen[-1] != seen[0]
    assert last.any()
    assert (truth[last] == 1).all(), "background was right from the start"


def test_drawing_needs_no_window(annotator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    # It would choose Qt's back end behind tests with a viewer, and may find their display gone.
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    about = {"dataset": "em_isbi2012", "seed": 0, "painted": 0.5, "other": 0.4}
    lines = [{**about, "method": method, "strokes": count} for method in ("live", "forest") for count in (2, 3)]
    lines.append({**about, "method": "dense", "strokes": None})
    annotator.draw([json.loads(json.dumps(line)) for line in lines], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
