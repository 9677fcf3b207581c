"""What tests/benchmarks/crash.py does twenty times, twice: no stroke is lost to kill -9."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "crash.py"


@pytest.fixture(scope="module")
def crash():
    spec = importlib.util.spec_from_file_location("crash_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["crash_benchmark"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_no_stroke_is_lost_to_kill_9(crash, tmp_path, monkeypatch):
    source = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{source / 'src'}:{source / 'kernels'}")
    outcomes = crash.run(2, tmp_path / "crash")
    assert sum(outcome.due for outcome in outcomes) >= 2, "it was killed before it painted"
    assert [line for outcome in outcomes for line in outcome.lost] == []


def stroke(crash, places, ids, time):
    return {"time": time, "places": crash.packed(np.array(places)), "ids": crash.packed(np.array(ids))}


def test_a_lost_stroke_is_found_out(crash):
    before = np.zeros((2, 4), np.uint8)
    old = stroke(crash, [0, 1, 2], [1, 1, 1], 10.0)
    over = stroke(crash, [2, 3], [2, 2], 11.0)
    late = stroke(crash, [3, 4], [1, 1], 14.5)
    strokes, killed = [old, over, late], 15.0
    for back in ([1, 1, 2, 2, 0, 0, 0, 0], [1, 1, 2, 1, 1, 0, 0, 0]):
        assert crash.missing("a", before, strokes, killed, -1, np.array(back, np.uint8).reshape(2, 4)) == []
    lost = np.array([1, 0, 2, 2, 0, 0, 0, 0], np.uint8).reshape(2, 4)
    assert crash.missing("a", before, strokes, killed, -1, lost) == ["a, stroke 0: 1 of 3 pixels"]
    strange = np.array([1, 1, 2, 2, 0, 0, 0, 2], np.uint8).reshape(2, 4)
    assert len(crash.missing("a", before, strokes, killed, -1, strange)) == 1
    assert crash.missing("a", before, strokes, killed, 2, strange) == [], "a stroke that was cut off may be there"
