"""The whole loop in the real dock, on data it brings along: from a folder to a segmentation and a look inside."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tifffile
from napari.layers import Image
from napari.utils.notifications import notification_manager, show_console_notification

from ..data.scribbles import scribbles
from ..data.synthetic import SYNTHETIC_PAINT, SYNTHETIC_PIXEL_SIZE, synthetic_em
from ..data.write import write_labels_tiff
from ..errors import AffmaeError, StorageError, cannot_write
from ..events import Done, Event, Score
from .jobs import Engine
from .settings_store import DockSettings, SettingsStore
from .state import DECODER

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from ..card import ClassInfo
    from ..config import FinetuneConfig, PretrainConfig
    from ..control import JobControl
    from ..data.label_images import LabelledImage
    from ..data.records import ImageCollection
    from .dock import AffmaeDock

IMAGES = 12
SIZE = 512
TILE = 128
PRETRAIN_MINUTES, PRETRAIN_BATCH = 1.25, 4
FINETUNE_MINUTES, FINETUNE_BATCH = 1.25, 4
PAINTED = "section_00.tif"
UNSEEN = "section_01.tif"
"""The one image that is painted, and one that the network is never told anything about."""

PAINTED_FRACTION = 0.03
CELLS = ("paint", "segmentation", "PCA", "tokens", "merge map", "reconstruction")
"""What the cells of the final picture show, row by row."""

WINDOW = (1880, 1140)
LONGEST_JOB = 600.0
"""Seconds after which a job of the demo is taken for stuck."""


def run_demo(out: Path | None, headless: bool, on_event: Callable[[Event], None] | None = None) -> dict[str, Any]:
    """Show the whole loop; takes about three minutes on two CPU cores.

    Parameters
    ----------
    out
        Folder for ``screenshot.png``, every layer (TIFF, or CSV for points) and ``summary.json``; None writes nothing.
    headless
        End when everything is done. Otherwise napari stays open until its window is closed.
    on_event
        Called with every event of the jobs, to show how far they are where nobody looks at the window.

    Returns
    -------
    dict
        Steps, seconds, the held-out score, and the intersection over union with the exact labels per class, on the painted
        image and on one that was not painted.

    Raises
    ------
    AffmaeError
        If a job of the loop failed; the message is the job's.
    StorageError
        If there is no screen to open napari on, or ``out`` cannot be written.
    """
    _require_screen()
    import napari

    with tempfile.TemporaryDirectory(prefix="napari-affmae-demo-") as scratch, ExitStack() as until_the_end:
        place = Path(scratch)
        write_images(place / "images")
        viewer = napari.Viewer(title="napari-affmae demo")
        until_the_end.enter_context(_quiet_console())
        viewer.window.resize(*WINDOW)
        loop = DemoLoop(viewer, place)
        if on_event is not None:
            loop.dock.session.event.connect(on_event)
        summary = loop.run()
        if out is not None:
            _write_layers(out, viewer, summary)
        loop.arrange()
        if out is not None:
            viewer.screenshot(str(out / "screenshot.png"), canvas_only=False, flash=False)
        if headless:
            loop.dock.shut_down()
            viewer.close()
        else:
            napari.run()
    return summary


@contextmanager
def _quiet_console() -> Iterator[None]:
    """Keep napari's notifications in its window: on stdout they would stand among the results."""
    ready = notification_manager.notification_ready
    connected = show_console_notification in ready.callbacks
    if connected:
        ready.disconnect(show_console_notification)
    try:
        yield
    finally:
        if connected:
            ready.connect(show_console_notification)


def write_images(folder: Path) -> None:
    """Write the drawn micrographs, with their pixel size."""
    folder.mkdir(parents=True)
    for seed in range(IMAGES):
        image, _ = synthetic_em(SIZE, seed)
        write_labels_tiff(folder / f"section_{seed:02}.tif", image, SYNTHETIC_PIXEL_SIZE)


class QuickEngine(Engine):
    """The engine with small batches: a minute on two cores then has enough steps to learn something."""

    def pretrain(
        self, images: ImageCollection, run: Path, config: PretrainConfig, *, resume: bool, control: JobControl
    ) -> Iterator[Event]:
        """Pretrain in small batches."""
        return super().pretrain(images, run, config.replace(batch=PRETRAIN_BATCH), resume=resume, control=control)

    def finetune(
        self,
        model: Path | str,
        examples: Sequence[LabelledImage],
        run: Path,
        config: FinetuneConfig,
        *,
        classes: Sequence[ClassInfo],
        resume: bool,
        control: JobControl,
    ) -> Iterator[Event]:
        """Finetune in small batches of small tiles."""
        quick = config.replace(tile=TILE, batch=FINETUNE_BATCH)
        return super().finetune(model, examples, run, quick, classes=classes, resume=resume, control=control)


class DemoLoop:
    """Presses the dock's buttons one after the other and waits for each job."""

    def __init__(self, viewer: Viewer, place: Path) -> None:
        from .dock import AffmaeDock

        store = SettingsStore(place / "settings.json")
        store.save(
            DockSettings(
                folder=str(place / "images"),
                project=str(place / "project"),
                tile=TILE,
                minutes=PRETRAIN_MINUTES,
                train_minutes=FINETUNE_MINUTES,
                device="cpu",
                classes=SYNTHETIC_PAINT,
            )
        )
        self.viewer = viewer
        self.dock: AffmaeDock = AffmaeDock(viewer, QuickEngine(), store)
        viewer.window.add_dock_widget(self.dock, name="AFFMAE", area="right")
        self.summary: dict[str, Any] = {}
        self._error: Exception | None = None
        self._score: Score | None = None
        self.dock.session.event.connect(self._note)
        self.dock.session.runner.failed.connect(self._fail)

    def run(self) -> dict[str, Any]:
        """Go through the four steps and return the figures."""
        started = time.perf_counter()
        dock = self.dock
        self._press(dock.images.scan)
        self.open_image(PAINTED)
        dock.open_step(2)
        self._press(dock.pretrain.start)
        dock.open_step(3)
        dock.press(dock.label.paint)
        paint = dock.session.layers.paint_layer(PAINTED)
        if paint is None:
            raise AffmaeError("the demo could not open a paint layer; please report this")
        truth = exact_labels(PAINTED)
        paint.data = scribbles(truth, PAINTED_FRACTION, seed=0)
        self._press(dock.label.train)
        self.open_image(UNSEEN)
        self._press(dock.label.segment)
        unseen = self._segmentation()
        # In the grid every layer gets a cell: only the painted image stays.
        for layer in [one for one in self.viewer.layers if one.name.startswith(UNSEEN)]:
            self.viewer.layers.remove(layer)
        self.open_image(PAINTED)
        self._press(dock.label.segment)
        painted = self._segmentation()
        self._press(dock.label.next.uncertainty)
        self._look()
        self.summary |= {
            "seconds": round(time.perf_counter() - started, 1),
            "painted_pixels": int(np.count_nonzero(paint.data)),
            "held_out_iou": None if self._score is None else round(self._score.miou, 3),
            "iou_painted_image": intersection_over_union(painted, truth),
            "iou_unseen_image": intersection_over_union(unseen, exact_labels(UNSEEN)),
        }
        return self.summary

    def open_image(self, name: str) -> None:
        """Open an image of the list as a user would by clicking it."""
        images = self.dock.session.state.images
        if images is None:
            raise AffmaeError("the demo found no images; please report this")
        record = next(record for record in images.records if record.name == name)
        self.dock.session.opener.open(record)
        wait_until(lambda: self.dock.session.state.image is not None and self.dock.session.state.image.name == name, 30)

    def _look(self) -> None:
        look = self.dock.look
        look.view.setCurrentIndex(look.view.findData("stage 3"))
        self._press(look.tokens)
        self._press(look.merge_map)
        look.view.setCurrentIndex(look.view.findData(DECODER))
        self._press(look.pca)

    def _press(self, button: Any) -> None:
        """Click a button and wait for its job."""
        if not button.isEnabled():
            raise AffmaeError(f"the demo cannot go on: {button.toolTip()}")
        button.click()
        wait_until(lambda: self.dock.session.state.idle, LONGEST_JOB)
        if self._error is not None:
            raise self._error

    def _segmentation(self) -> npt.NDArray[Any]:
        name = f"{self.dock.session.state.image.name if self.dock.session.state.image else ''} · segmentation"
        return np.array(self.viewer.layers[name].data)

    def arrange(self) -> None:
        """Show everything at once: a grid with each overlay over its image, and the dock with the finished runs."""
        layers = self.viewer.layers
        image = layers[PAINTED]
        pairs = [[layer for layer in layers if layer.name.startswith("pretraining")]]
        overlays = [one for one in layers if one.name.startswith(f"{PAINTED} · ")]
        for layer in overlays:
            layer.visible = False  # what has no cell of its own would lie over its neighbours
        for layer in [one for one in overlays if any(cell in one.name for cell in CELLS)]:
            below = image if layer.name.endswith("paint") else Image(image.data, name=f"under {layer.name}", scale=image.scale)
            if below is not image:
                below.units = image.units
                layers.append(below)
            pairs.append([below, layer])
        pairs.sort(key=lambda pair: CELLS.index(next(cell for cell in CELLS if cell in pair[1].name)))
        for place, layer in enumerate(layer for pair in pairs for layer in pair):
            layers.move(layers.index(layer), place)
            layer.visible = True
        corner = min(float(layer.translate[1]) for layer in pairs[-1])
        for layer in pairs[-1]:
            # The previews lie beside the image, which would make every cell wider.
            layer.translate = (0, float(layer.translate[1]) - corner)
        # napari 0.9 moved the grid into the canvas.
        grid = getattr(self.viewer, "canvas", self.viewer).grid
        grid.enabled = True
        grid.stride = 2
        grid.shape = (2, 3)
        grid.spacing = 0.02
        for number, section in enumerate(self.dock.sections, start=1):
            section.open(number > 1)
        layers.selection.active = image
        self.viewer.reset_view()
        wait(0.5)

    def _note(self, event: object) -> None:
        if isinstance(event, Score):
            self._score = event
        elif isinstance(event, Done) and event.job in ("pretrain", "finetune"):
            self.summary[f"{event.job}_steps"] = event.step

    def _fail(self, error: Exception) -> None:
        self._error = error


def exact_labels(name: str) -> npt.NDArray[np.uint8]:
    """Return the exact classes of a drawn micrograph."""
    return synthetic_em(SIZE, int(Path(name).stem.rpartition("_")[2]))[1]


def intersection_over_union(labels: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[str, float]:
    """Compare painted ids (from 1) with exact ones (from 0), per class and on average."""
    figures = {}
    for info in SYNTHETIC_PAINT:
        ours, exact = labels == info.id, truth == info.id - 1
        figures[info.name] = round(float((ours & exact).sum() / max(int((ours | exact).sum()), 1)), 3)
    return {**figures, "mean": round(sum(figures.values()) / len(figures), 3)}


def wait_until(done: Callable[[], bool], seconds: float) -> None:
    """Keep the window alive until something is done.

    Raises
    ------
    AffmaeError
        If it takes longer than ``seconds``.
    """
    end = time.perf_counter() + seconds
    while not done():
        if time.perf_counter() > end:
            raise AffmaeError(f"the demo waited {seconds:.0f} s for a step that did not end; see the messages above")
        wait(0.02)


def wait(seconds: float) -> None:
    """Handle the window's events for a while."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    loop.exec()


def _require_screen() -> None:
    if sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")):
        raise StorageError(
            "napari needs a screen and there is none: run it on a virtual one, "
            'xvfb-run -a -s "-screen 0 1920x1200x24" napari-affmae demo --headless'
        )


def _write_layers(out: Path, viewer: Viewer, summary: dict[str, Any]) -> None:
    """Write every layer and the figures."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for layer in viewer.layers:
            stem = re.sub(r"[ ·]+", "-", layer.name.removesuffix(".tif"))
            if layer.as_layer_data_tuple()[2] == "points":
                _write_points(out / f"{stem}.csv", layer)
            else:
                kind = "rgb" if getattr(layer, "rgb", False) else "minisblack"
                tifffile.imwrite(out / f"{stem}.tif", np.asarray(layer.data), photometric=kind, compression="zlib")
        (out / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    except OSError as error:
        raise cannot_write(out, error) from error


def _write_points(path: Path, layer: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "column", "area"])
        writer.writerows(zip(*layer.data.T.tolist(), layer.features["area"].tolist(), strict=True))
