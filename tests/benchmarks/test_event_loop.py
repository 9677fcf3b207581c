"""napari stays usable while the dock trains: a short version of ``event_loop.py``, with twice its targets' room."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).with_name("event_loop.py")
SECONDS = 10.0


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("event_loop", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_window_breathes_while_the_network_trains(script, monkeypatch, capsys):
    source = Path(__file__).parents[2]
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(source / "src"), str(source / "kernels"), os.environ.get("PYTHONPATH", "")])
    )
    results = {mode: script.measure(mode, SECONDS) for mode in ("alone", "bare", "dock")}
    with capsys.disabled():
        print("\n" + script.table(results))
    dock = results["dock"]
    assert dock.p95 <= 60
    assert dock.longest <= 400
    assert dock.steps_per_second >= 0.35 * results["alone"].steps_per_second


def test_gaps_and_steps_are_counted_after_the_warm_up(script, monkeypatch):
    now = 0.0
    monkeypatch.setattr(script.time, "perf_counter", lambda: now)
    watch = script.Watch(1.0)
    for place in range(40):
        now += 0.1
        watch.tick()
        if place % 2:
            watch.step()
        if watch.over:
            break
    measured = script.Measurement.of(watch.steps, watch.seconds, watch.gaps, watch.starting)
    assert watch.steps == 5
    assert measured.steps_per_second == pytest.approx(5)
    assert measured.p95 == pytest.approx(100)
    assert len(watch.gaps) == 10
