"""How smooth napari stays while tiny pretraining runs in the dock's worker, and what the window costs the training.

The same training on the same images, each in its own process:

``alone``   the generator in the main thread, no Qt
``bare``    a viewer with two plain layers, a plain thread that runs the generator, previews put into the layers
``dock``    the dock, with its bar, curve, notifications and preview layers

All of them leave one core to the window.

A 1 ms timer in the window's event loop notes when it fires; a gap is the time between two of its calls. Run it on a machine
that does nothing else::

    python tests/benchmarks/event_loop.py --seconds 60 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Mode = Literal["alone", "bare", "dock"]
MODES: tuple[Mode, ...] = ("alone", "bare", "dock")
TILE = 256
IMAGES = 8
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Measurement:
    """Gaps of the event loop in milliseconds (None without one) and training steps per second."""

    steps_per_second: float
    p50: float | None = None
    p95: float | None = None
    longest: float | None = None
    starting: float | None = None

    @classmethod
    def of(cls, steps: int, seconds: float, gaps: list[float], starting: list[float]) -> Measurement:
        in_ms = 1000 * np.array(gaps)
        return cls(
            steps / seconds,
            *(float(value) for value in np.percentile(in_ms, (50, 95))),
            float(in_ms.max()),
            1000 * max(starting, default=0.0),
        )


def write_images(folder: Path) -> None:
    """Write the images that all three runs train on."""
    import tifffile

    from napari_affmae.data.synthetic import synthetic_em

    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(IMAGES):
        tifffile.imwrite(folder / f"section_{seed}.tif", synthetic_em(512, seed)[0])


def training(folder: Path, run: Path, threads: int | None) -> Iterator[object]:
    """Return the training that the dock starts with its defaults and this tile."""
    from napari_affmae.config import Budget, PretrainConfig
    from napari_affmae.engine.pretrain import pretrain
    from napari_affmae.model_config import ModelConfig

    config = PretrainConfig(model=ModelConfig.preset("tiny"), budget=Budget(minutes=60), tile=TILE, device="cpu")
    return pretrain(folder, run, config, threads=threads)


def alone(folder: Path, run: Path, seconds: float) -> Measurement:
    """Train without a window, with the threads that the dock gives its jobs."""
    from napari_affmae.widgets.jobs import job_threads

    return without_window(training(folder, run, job_threads()), seconds)


def without_window(events: Iterator[object], seconds: float) -> Measurement:
    """Count the steps of a training in this thread."""
    from napari_affmae.events import Progress

    watch = Watch(seconds)
    for event in events:
        if isinstance(event, Progress):
            watch.step()
        if watch.over:
            break
    return Measurement(watch.steps / watch.seconds)


class Watch:
    """Counts steps and gaps between the end of the warm-up and the end of the time."""

    def __init__(self, seconds: float) -> None:
        self._for = seconds
        self._seen = 0
        self._begun: float | None = None
        self.seconds = 0.0
        self.steps = 0
        self.gaps: list[float] = []
        self.starting: list[float] = []
        self._last: float | None = None

    @property
    def over(self) -> bool:
        return self._begun is not None and time.perf_counter() - self._begun >= self._for

    def step(self) -> None:
        self._seen += 1
        now = time.perf_counter()
        if self._seen == WARM_UP_STEPS:
            self._begun = now
        elif self._begun is not None:
            self.steps += 1
            self.seconds = now - self._begun

    def tick(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            (self.starting if self._begun is None else self.gaps).append(now - self._last)
        self._last = now


def with_window(prepare: Callable[[Watch], Callable[[], None]], seconds: float) -> Measurement:
    """Run an event loop with a probe; ``prepare`` starts the training and returns what ends it."""
    from qtpy.QtCore import QEventLoop, Qt, QTimer

    watch = Watch(seconds)
    loop = QEventLoop()
    end = prepare(watch)
    probe = QTimer()
    probe.setTimerType(Qt.TimerType.PreciseTimer)
    probe.setInterval(1)

    def tick() -> None:
        watch.tick()
        if watch.over:
            loop.quit()

    probe.timeout.connect(tick)
    probe.start()
    loop.exec()
    probe.stop()
    end()
    return Measurement.of(watch.steps, watch.seconds, watch.gaps, watch.starting)


def bare(folder: Path, run: Path, seconds: float) -> Measurement:
    """Train in a plain thread beside a viewer with two plain layers."""
    import napari
    from qtpy.QtCore import QObject, Signal

    from napari_affmae.events import Preview, Progress
    from napari_affmae.widgets.jobs import job_threads

    class Bridge(QObject):
        preview = Signal(object)

    viewer = napari.Viewer()
    layers = [viewer.add_image(np.zeros((TILE, TILE), np.float32), contrast_limits=(0, 1)) for _ in range(2)]
    layers[1].translate = (0, TILE)
    viewer.reset_view()
    bridge = Bridge()
    stop = threading.Event()

    def show(event: Preview) -> None:
        layers[0].data = event.masked
        layers[1].data = event.reconstruction

    bridge.preview.connect(show)

    def prepare(watch: Watch) -> Callable[[], None]:
        def work() -> None:
            for event in training(folder, run, job_threads()):
                if isinstance(event, Preview):
                    bridge.preview.emit(event)
                elif isinstance(event, Progress):
                    watch.step()
                if stop.is_set():
                    return

        thread = threading.Thread(target=work)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()

        return end

    measured = with_window(prepare, seconds)
    viewer.close()
    return measured


def dock(folder: Path, run: Path, seconds: float) -> Measurement:
    """Train with the dock, started by its button."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_affmae.events import Progress
    from napari_affmae.widgets.dock import AffmaeDock
    from napari_affmae.widgets.settings_store import DockSettings, SettingsStore

    store = SettingsStore(run / "settings.json")
    store.save(DockSettings(folder=str(folder), project=str(run), tile=TILE, minutes=60, device="cpu"))
    viewer = napari.Viewer()
    widget = AffmaeDock(viewer, store=store)
    viewer.window.add_dock_widget(widget, name="AFFMAE", area="right")
    widget.images.scan.click()
    while not widget.session.state.idle:
        QApplication.processEvents()
        time.sleep(0.01)
    widget.open_step(2)

    def prepare(watch: Watch) -> Callable[[], None]:
        def count(event: object) -> None:
            if isinstance(event, Progress):
                watch.step()

        widget.session.event.connect(count, check_nargs=False)
        prepare.keep = count  # type: ignore[attr-defined]  # psygnal holds callbacks weakly
        widget.pretrain.start.click()
        return lambda: widget.session.close(60)

    measured = with_window(prepare, seconds)
    viewer.close()
    return measured


def measure(mode: Mode, seconds: float) -> Measurement:
    """Measure in a process of its own, so that no run inherits threads or memory of another."""
    environment = {**os.environ, "NAPARI_ASYNC": "0"}
    command = [sys.executable, __file__, "--only", mode, "--seconds", str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=seconds * 3 + 240)
    if done.returncode:
        raise RuntimeError(f"the run {mode!r} failed:\n{done.stderr}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def median(measurements: list[Measurement]) -> Measurement:
    """Return the median of each figure."""
    columns = {name: [asdict(one)[name] for one in measurements] for name in asdict(measurements[0])}
    return Measurement(**{name: None if values[0] is None else statistics.median(values) for name, values in columns.items()})


def table(results: dict[Mode, Measurement]) -> str:
    """Return the figures as a table."""
    lines = [f"{'run':8}{'steps/s':>9}{'of alone':>10}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'max ms while starting':>24}"]
    for mode, one in results.items():
        share = one.steps_per_second / results["alone"].steps_per_second
        gaps = "".join(f"{'–' if value is None else format(value, '.1f'):>9}" for value in (one.p50, one.p95, one.longest))
        starting = "–" if one.starting is None else f"{one.starting:.0f}"
        lines.append(f"{mode:8}{one.steps_per_second:>9.2f}{share:>10.0%}{gaps}{starting:>24}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=MODES)
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / "images"
            write_images(images)
            run = {"alone": alone, "bare": bare, "dock": dock}[arguments.only]
            print(json.dumps(asdict(run(images, Path(folder) / "run", arguments.seconds))))
        return
    results = {mode: median([measure(mode, arguments.seconds) for _ in range(arguments.repeats)]) for mode in MODES}
    print(f"{os.cpu_count()} cores, median of {arguments.repeats} runs of {arguments.seconds:.0f} s, tile {TILE}")
    print(table(results))


if __name__ == "__main__":
    main()
