"""Kill the process with -9 at random moments while painting is scripted, and look for strokes that are lost.

Each time a process opens the dock on a folder of images, as a user would, and paints with mouse events, going from image to
image. It is killed; another process opens the dock again and reads what came back. A stroke that was released more than a
second before must be there, pixel by pixel, unless a later stroke went over it::

    python tests/benchmarks/crash.py --kills 20
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIDE = 384
IMAGES = ("em_0.png", "em_1.png")
GRACE = 1.0
"""Seconds after its release from which a stroke must be safe."""


@dataclass
class Outcome:
    """What one killed process left."""

    strokes: int = 0
    due: int = 0
    lost: list[str] = field(default_factory=list)


# The process that paints, and the one that looks afterwards


def make_dock(folder: Path, project: Path):
    """Open napari and the dock, and read the folder."""
    import napari

    from napari_affmae.widgets.dock import AffmaeDock
    from napari_affmae.widgets.settings_store import DockSettings, SettingsStore

    store = SettingsStore(project.parent / "settings.json")
    store.save(DockSettings(folder=str(folder), project=str(project)))
    viewer = napari.Viewer(show=True)
    dock = AffmaeDock(viewer, store=store)
    viewer.window.add_dock_widget(dock, area="right")
    dock.images.read_folder()
    wait_until(lambda: dock.session.state.images is not None and dock.session.state.idle)
    return dock


def wait_until(condition, timeout: float = 60.0) -> None:
    """Let the window work until something is so."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + timeout
    while not condition():
        QApplication.processEvents()
        time.sleep(0.005)
        if time.monotonic() > end:
            raise TimeoutError("the dock did not get there")


def open_image(dock, name: str):
    """Open an image and take the brush; return the layer."""
    record = next(record for record in dock.session.state.images.records if record.name == name)
    dock.session.opener.open(record)
    wait_until(lambda: dock.session.state.image is not None and dock.session.state.image.name == name)
    wait_until(lambda: dock.session.restorer.is_done(name))
    dock.label.paint.click()
    return dock.session.layers.paint_layer(name)


def paint(folder: Path, project: Path, seed: int) -> None:
    """Paint until killed; say on stdout what each stroke changed, right after the button was released."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    rng = random.Random(seed)
    dock = make_dock(folder, project)
    canvas = dock._viewer.window._qt_viewer.canvas.native
    number = 0
    while True:
        name = rng.choice(IMAGES)
        layer = open_image(dock, name)
        dock.label.brush.setValue(rng.randint(3, 12))
        for _ in range(rng.randint(2, 8)):
            place = rng.randrange(2)
            dock.label.classes.selectRow(place)
            print("begin", name, dock.session.state.classes[place].id, flush=True)
            before = layer.data.copy()
            middle = canvas.rect().center()
            start = middle + QPoint(rng.randint(-120, 120), rng.randint(-120, 120))
            QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=start)
            for step in range(1, rng.randint(3, 15)):
                where = start + QPoint(rng.randint(-6, 6), 6 * step)
                QTest.mouseMove(canvas, where)
                QApplication.processEvents()
            QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=where)
            released = time.time()
            # Undone pixels belong to the stroke, too: until the undo is due, the disk may still hold them as they were painted.
            changed = np.flatnonzero(before != layer.data)
            if rng.random() < 0.15:
                layer.undo()
                released = time.time()
            record = {"image": name, "time": released, "places": packed(changed), "ids": packed(layer.data.ravel()[changed])}
            print("stroke", number, json.dumps(record), flush=True)
            number += 1
            end = time.monotonic() + rng.uniform(0, 0.3)
            while time.monotonic() < end:
                QApplication.processEvents()
                time.sleep(0.002)


def look(folder: Path, project: Path, out: Path) -> None:
    """Open the dock again and write the paint that came back."""
    dock = make_dock(folder, project)
    arrays = {}
    for name in IMAGES:
        arrays[name] = np.asarray(open_image(dock, name).data)
    arrays["classes"] = np.array([info.id for info in dock.session.state.classes])
    np.savez(out, **arrays)
    os._exit(0)


# The process that kills


def packed(values: npt.NDArray) -> str:
    return base64.b64encode(zlib.compress(values.astype(np.int64).tobytes())).decode()


def unpacked(text: str) -> npt.NDArray[np.int64]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int64)


def write_images(folder: Path) -> None:
    from PIL import Image

    from napari_affmae.data.synthetic import synthetic_em

    folder.mkdir(parents=True)
    for seed, name in enumerate(IMAGES):
        Image.fromarray(synthetic_em(SIDE, seed)[0]).save(folder / name)


def start(action: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, action, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_once(place: Path, seed: int, expected: dict[str, npt.NDArray]) -> Outcome:
    """Let a process paint for a random while, kill it, and compare what a restart shows with what had been released.

    ``expected`` holds what was there before, and holds what came back afterwards.
    """
    rng = random.Random(1000 + seed)
    folder, project = place / "images", place / "project"
    process = start("paint", folder, project, seed)
    if process.stdout is None:
        raise RuntimeError("the painting process has no output")
    lines = [process.stdout.readline()]
    if not lines[0]:
        raise RuntimeError(process.communicate()[1])
    os.set_blocking(process.stdout.fileno(), False)
    time.sleep(rng.uniform(1.0, 6.0))
    process.send_signal(signal.SIGKILL)
    killed = time.time()
    process.wait()
    os.set_blocking(process.stdout.fileno(), True)
    lines += process.stdout.read().splitlines()
    process.stdout.close()
    process.stderr.close()
    strokes = [json.loads(line.split(" ", 2)[2]) for line in lines if line.startswith("stroke") and line.rstrip().endswith("}")]
    result = place / "back.npz"
    looking = start("look", folder, project, result)
    _, errors = looking.communicate(timeout=180)
    if looking.returncode:
        raise RuntimeError(f"the dock could not be opened again: {errors}")
    # The stroke that was cut off, or whose end could not be said any more: whatever of it is there may stay.
    begun = lines[-1].split() if lines[-1].startswith("begin") else ["", "", "-1"]
    outcome = Outcome(strokes=len(strokes), due=sum(stroke["time"] < killed - GRACE for stroke in strokes))
    with np.load(result) as back:
        for name in IMAGES:
            half = int(begun[2]) if begun[1] == name else -1
            mine = [one for one in strokes if one["image"] == name]
            outcome.lost += missing(name, expected[name], mine, killed, half, back[name])
            expected[name] = np.array(back[name])
    return outcome


def missing(name: str, before: npt.NDArray, strokes: list[dict], killed: float, half: int, back: npt.NDArray) -> list[str]:
    """Return the strokes of an image that should be there and are not, in words.

    ``before`` is what was there when the process started, ``half`` the class of a stroke that was cut off, ``back`` what a
    restart shows.
    """
    due, late = before.ravel().copy(), np.zeros(before.size, bool)
    for stroke in strokes:
        places = unpacked(stroke["places"])
        if stroke["time"] < killed - GRACE:
            due[places] = unpacked(stroke["ids"])
        else:
            late[places] = True
    # Where strokes came late, and where one was just being painted, anything newer may stand as well.
    wrong = (back.ravel() != due) & ~late & (back.ravel() != half)
    lost = []
    for number, stroke in enumerate(strokes):
        places = unpacked(stroke["places"])
        if stroke["time"] < killed - GRACE and wrong[places].any():
            lost.append(f"{name}, stroke {number}: {int(wrong[places].sum())} of {len(places)} pixels")
            wrong[places] = False
    if wrong.any():
        lost.append(f"{name}: {int(wrong.sum())} pixels that no stroke of this process changed")
    return lost


def run(kills: int, place: Path) -> list[Outcome]:
    """Kill so many times, and print what came of it."""
    write_images(place / "images")
    expected = {name: np.zeros((SIDE, SIDE), np.uint8) for name in IMAGES}
    outcomes = []
    for seed in range(kills):
        outcome = kill_once(place, seed, expected)
        outcomes.append(outcome)
        print(f"kill {seed + 1:2}: {outcome.strokes:3} strokes, {outcome.due:3} due, {len(outcome.lost)} lost", flush=True)
        for line in outcome.lost:
            print(f"  {line}")
    print(f"{kills} kills, {sum(one.due for one in outcomes)} strokes due, {sum(len(one.lost) for one in outcomes)} lost")
    return outcomes


def main() -> None:
    """Read the command line."""
    if len(sys.argv) > 1 and sys.argv[1] == "paint":
        paint(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    elif len(sys.argv) > 1 and sys.argv[1] == "look":
        look(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--kills", type=int, default=20)
        with tempfile.TemporaryDirectory() as place:
            outcomes = run(parser.parse_args().kills, Path(place) / "crash")
        sys.exit(any(outcome.lost for outcome in outcomes))


if __name__ == "__main__":
    main()
