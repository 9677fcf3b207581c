"""How long live mode takes from mouse release to the updated layer, and how smooth the window stays meanwhile.

Opens a viewer with the dock and a 512² image, switches live mode on, paints strokes with mouse events where the ground truth
has their class, and prints a table and one line of JSON with the machine and the commit. Run it on a machine that does nothing
else::

    python tests/benchmarks/live_round.py --model runs/cells --rounds 6
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 512
WAIT = 180.0


def commit() -> str:
    """Return the commit that is measured."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(rounds: list[dict[str, Any]]) -> str:
    """Return the rounds as a table."""
    titles = ("round", 6), ("steps", 7), ("release to layer s", 20), ("before", 13), ("after", 8), ("p95 ms", 12), ("max ms", 9)
    lines = ["".join(f"{title:>{width}}" for title, width in titles)]
    for place, one in enumerate(rounds, start=1):
        lines.append(
            f"{place:>6}{one['steps']:>7}{one['seconds']:>20.2f}{one['before']:>13.3f}{one['after']:>8.3f}"
            f"{one['p95']:>12.1f}{one['longest']:>9.1f}"
        )
    return "\n".join(lines)


def smoothness(gaps: list[float]) -> dict[str, float]:
    """Return how long the event loop was away, in milliseconds."""
    in_ms = 1000 * np.array(gaps)
    return {"p95": float(np.percentile(in_ms, 95)), "longest": float(in_ms.max())}


def measure(model: Path | None, count: int, project: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Switch live mode on, paint ``count`` strokes one after the other, and wait for each to be answered."""
    import napari
    from qtpy.QtCore import QPoint, Qt, QTimer
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    from napari_affmae.data.synthetic import synthetic_em
    from napari_affmae.widgets.dock import AffmaeDock
    from napari_affmae.widgets.settings_store import DockSettings, SettingsStore

    store = SettingsStore(project / "settings.json")
    store.save(DockSettings(project=str(project), device="cpu", from_scratch=model is None))
    viewer = napari.Viewer()
    dock = AffmaeDock(viewer, store=store)
    viewer.window.add_dock_widget(dock, name="AFFMAE", area="right")
    dock.open_step(3)
    image, truth = synthetic_em(SIDE, 0)[:2]
    viewer.add_image(image, name="em")
    viewer.reset_view()

    def wait(condition: Any) -> None:
        end = time.perf_counter() + WAIT
        while not condition():
            if time.perf_counter() > end:
                raise TimeoutError("live mode gave no answer")
            QApplication.processEvents()
            time.sleep(0.0005)

    if model is not None:
        dock.load_model(model)
        wait(lambda: dock.session.state.idle and dock.session.state.model is not None)
    dock.label.paint.click()
    live = dock.label.live_mode
    layer = dock.session.layers.paint_layer("em")
    canvas = viewer.window._qt_viewer.canvas.native
    rng = np.random.default_rng(0)
    gaps: list[float] = []
    last = [time.perf_counter()]

    def tick() -> None:
        now = time.perf_counter()
        gaps.append(now - last[0])
        last[0] = now

    probe = QTimer()
    probe.setTimerType(Qt.TimerType.PreciseTimer)
    probe.timeout.connect(tick)
    probe.start(1)

    def stroke(class_id: int) -> float:
        layer.selected_label = class_id
        row, column = rng.choice(np.argwhere((truth > 0) == (class_id == 2)))
        camera = viewer.scene.camera
        x, y = (column - camera.center[2]) * camera.zoom, (row - camera.center[1]) * camera.zoom
        place = canvas.rect().center() + QPoint(round(x), round(y))
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=place)
        QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=place)
        return time.perf_counter()

    measured = []
    for _ in range(20):
        QApplication.processEvents()
    gaps.clear()
    switched = time.perf_counter()
    dock.label.live.click()
    wait(lambda: live.runner.running)
    wait(lambda: not live.runner.running)
    opening = {"seconds": time.perf_counter() - switched, **smoothness(gaps)}
    stroke(1)
    for number in range(count):
        answered = len(live.rounds)
        gaps.clear()
        released = stroke(2 - number % 2)
        wait(lambda answered=answered: len(live.rounds) > answered)
        seconds = time.perf_counter() - released
        wait(lambda: not live.runner.running)
        found = live.rounds[-1]
        measured.append(
            {
                "steps": found.steps,
                "seconds": seconds,
                "before": found.loss_before,
                "after": found.loss_after,
                **smoothness(gaps),
            }
        )
    probe.stop()
    dock.shut_down()
    viewer.close()
    return opening, measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a pretrained run or model file; from scratch without")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        opening, rounds = measure(arguments.model, arguments.rounds, Path(folder))
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"switched on: {opening['seconds']:.2f} s, p95 {opening['p95']:.1f} ms, max {opening['longest']:.1f} ms")
    print(table(rounds))
    print(json.dumps({"machine": machine, "commit": commit(), "side": SIDE, "opening": opening, "rounds": rounds}))


if __name__ == "__main__":
    main()
