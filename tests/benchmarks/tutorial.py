"""Walk the loop of the dock as a newcomer would, with a real mouse on a real window, and photograph it for the README.

    xvfb-run -a -s "-screen 0 1920x1200x24" python tests/benchmarks/tutorial.py --root DATA

DATA is the folder that holds ``fluo_dsb2018`` (nuclei of the 2018 Data Science Bowl, BBBC038, CC0): pictures of its training
images may be shown to everybody. The strokes go where the exact labels say; everything else is what anybody would do. On two
CPU cores it takes about five minutes, three of them pretraining.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import numpy as np
import numpy.typing as npt
from comparison.datasets import data_folder
from napari._qt.dialogs.qt_notification import NapariQtNotification
from PIL import Image
from skimage.io import imread
from skimage.segmentation import find_boundaries
from tour.hand import Hand
from tour.strokes import largest_error, stroke_in

from napari_affmae.card import ClassInfo
from napari_affmae.widgets.dock import AffmaeDock
from napari_affmae.widgets.kinds import KIND, Kind
from napari_affmae.widgets.settings_store import DockSettings, SettingsStore
from napari_affmae.widgets.state import DECODER

if TYPE_CHECKING:
    from napari.viewer import Viewer

OUT = Path(__file__).parents[2] / "docs" / "tutorial"
DATASET = "fluo_dsb2018"
IMAGES = "nuclei"
NUMBERS = (6, 8, 9, 11, 15, 17, 18, 21)
"""Images of the training split, of one size and with nuclei of one size."""

PAINTED = "fluo_008.png"
WINDOW = (1400, 870)
COLORS = 256
MARGIN = 12
"""Pixels of an image that is shown whole, around it."""

BRUSH = 6
CLASSES = (ClassInfo(id=1, name="background", color="#3b7dd8"), ClassInfo(id=2, name="nucleus", color="#f0a202"))
CORRECTIONS = 4
LEAST_LEARNED = 0.6
"""Part of the pretraining after which its picture is taken."""


def main() -> int:
    """Take all pictures."""
    given = _parser().parse_args()
    import napari

    root, out = data_folder(given.root).resolve(), given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    # From within the folder, so that no picture shows the path of one machine.
    with tempfile.TemporaryDirectory(prefix="napari-affmae-tutorial-") as scratch, contextlib.chdir(scratch):
        truth = _prepare(root / DATASET, Path(IMAGES))
        store = SettingsStore(Path("settings.json"))
        store.save(DockSettings(project="project", minutes=given.minutes, brush=BRUSH, device="cpu", classes=CLASSES))
        viewer = napari.Viewer(title="napari")
        dock = AffmaeDock(viewer, store=store)
        viewer.window.add_dock_widget(dock, name="AFFMAE", area="right")
        viewer.window.resize(*WINDOW)
        try:
            Tutorial(viewer, dock, truth, out).walk()
        finally:
            dock.shut_down()
            viewer.close()
    return 0


class Tutorial:
    """Each method is a step, and ends with its picture."""

    def __init__(self, viewer: Viewer, dock: AffmaeDock, truth: npt.NDArray[np.uint8], out: Path) -> None:
        self._viewer, self._dock, self._truth, self._out = viewer, dock, truth, out
        self._hand = Hand(viewer)
        self._failed: list[Exception] = []
        dock.session.runner.failed.connect(self._failed.append)
        dock.label.live_mode.runner.failed.connect(self._failed.append)

    def walk(self) -> None:
        """Go through the loop."""
        self.read()
        self.pretrain()
        self.paint()
        self.live()
        self.correct()
        self.suggest()
        self.refine()
        self.apply()
        self.look()

    def read(self) -> None:
        """Read the folder and open an image."""
        self._hand.write(self._dock.images.folder.line, IMAGES)
        self._until_idle("the folder")
        self._click_image()
        self._hand.wait_for(PAINTED, lambda: self._dock.session.state.image is not None)
        self._picture("1-images")

    def pretrain(self) -> None:
        """Start pretraining, watch it, and wait for its end."""
        self._open(2)
        step, image = self._dock.pretrain, self._viewer.layers[PAINTED]
        image.visible = False
        self._hand.click(step.start)
        self._hand.wait_for("pretraining", lambda: step.bar.value() >= 1000 * LEAST_LEARNED or bool(self._failed))
        shown = self._of_kind(Kind.MASKED, Kind.RECONSTRUCTION)
        extent = np.stack([layer.extent.world for layer in shown])
        (top, left), (bottom, right) = extent[:, 0].min(0), extent[:, 1].max(0)
        self._hand.look_at(image, top - MARGIN, left - MARGIN, bottom + MARGIN, right + MARGIN)
        self._picture("2-pretrain")
        self._until_idle("the end of pretraining")
        self._open(1)
        self._click_image()
        self._hand.wait_for(PAINTED, lambda: image.visible)
        self._whole()

    def paint(self) -> None:
        """Draw the first strokes of both classes."""
        self._open(3)
        label = self._dock.label
        self._hand.click(label.paint)
        cut = np.linspace(0, self._truth.shape[1], 4).astype(int)
        for class_id in (1, 2):
            self._choose(class_id)
            region = self._truth == class_id
            for first, last in itertools.pairwise(cut):
                part = np.zeros_like(region)
                part[:, first:last] = region[:, first:last]
                self._draw(part, class_id)
        self._hand.show(label.image)
        self._picture("3-paint")

    def live(self) -> None:
        """Switch live mode on."""
        label = self._dock.label
        self._answered(lambda: self._hand.click(label.live))
        self._hand.show(label.image, label.live_status)
        self._picture("4-live")

    def correct(self) -> None:
        """Paint where the prediction is most wrong, several times."""
        error = None
        for _ in range(CORRECTIONS):
            wrong = (self._prediction() != self._truth) & (self._truth > 0)
            error = largest_error(wrong)
            class_id = int(np.median(self._truth[error]))
            self._choose(class_id)
            self._answered(lambda error=error, class_id=class_id: self._draw(error, class_id))
        self._hand.show(self._dock.label.image, self._dock.label.live_status)
        self._picture("5-correct")

    def suggest(self) -> None:
        """Show where the network is unsure, and ask for places."""
        label = self._dock.label
        if not label.next_section.content.isVisible():
            self._hand.click(label.next_section.heading)
        self._hand.click(label.next.uncertainty)
        self._hand.click(label.next.suggest)
        self._until_idle("suggestions")
        self._whole()
        self._hand.show(label.next_section, label.next.accept)
        self._picture("6-where-next")
        self._hand.click(label.next.uncertainty)

    def refine(self) -> None:
        """Switch live mode off and tell touching nuclei apart."""
        label = self._dock.label
        self._hand.click(label.live)
        self._hand.wait_for("live mode", lambda: not label.live_mode.runner.running)
        self._hand.click(label.segment)
        self._until_idle("the segmentation")
        section, part = label.parts[0], label.refine
        self._hand.click(label.next_section.heading)
        self._hand.click(section.heading)
        self._hand.click(part.on)
        self._hand.wait_for("the objects", lambda: bool(part.table.objects))
        for layer in self._of_kind(Kind.PAINT, Kind.SUGGESTIONS):
            layer.visible = False
        self._middle()
        self._hand.show(section, part.table)
        self._picture("7-refine")
        self._hand.click(section.heading)

    def apply(self) -> None:
        """Segment the whole folder."""
        section, part = self._dock.label.parts[1], self._dock.label.apply
        self._hand.click(section.heading)
        self._whole()
        self._hand.click(part.apply)
        self._until_idle("all images")
        self._hand.show(section, part.result)
        self._picture("8-apply")

    def look(self) -> None:
        """Show the tokens, then the features."""
        self._dock.label.refine.on.setChecked(False)
        self._open(4)
        step = self._dock.look
        step.view.setCurrentIndex(step.view.findData("stage 3"))
        self._hand.click(step.tokens)
        self._until_idle("the tokens")
        self._middle()
        self._picture("9-tokens")
        step.view.setCurrentIndex(step.view.findData(DECODER))
        self._hand.click(step.pca)
        self._picture("10-features")

    # Pieces

    def _open(self, number: int) -> None:
        """Open a step and close the others by their headings."""
        for place, section in enumerate(self._dock.sections, start=1):
            if section.heading.isChecked() != (place == number):
                self._hand.click(section.heading)

    def _whole(self) -> None:
        """Show all of the image."""
        height, width = self._truth.shape
        self._hand.look_at(self._viewer.layers[PAINTED], -MARGIN, -MARGIN, height + MARGIN, width + MARGIN)

    def _middle(self) -> None:
        """Show the middle of the image, twice as large."""
        height, width = self._truth.shape
        self._hand.look_at(self._viewer.layers[PAINTED], height * 0.25, width * 0.25, height * 0.75, width * 0.75)

    def _click_image(self) -> None:
        images = self._dock.images.list
        row = next(row for row in range(images.count()) if images.item(row).text() == PAINTED)
        item = images.item(row)
        images.scrollToItem(item)
        self._hand.click(images.viewport(), images.visualItemRect(item).center())

    def _choose(self, class_id: int) -> None:
        table = self._dock.label.classes
        item = table.item([info.id for info in CLASSES].index(class_id), 1)
        self._hand.click(table.viewport(), table.visualItemRect(item).center())

    def _draw(self, region: npt.NDArray[np.bool_], class_id: int) -> None:
        ends = stroke_in(region, self._truth == class_id, BRUSH)
        if ends is not None:
            self._hand.stroke(self._viewer.layers[f"{PAINTED} · paint"], ends)

    def _answered(self, act: Callable[[], None]) -> None:
        """Do something and wait until live mode has answered it."""
        live = self._dock.label.live_mode
        before = len(live.rounds)
        act()
        self._hand.wait_for("live mode", lambda: len(live.rounds) > before or bool(self._failed))
        self._hand.wait_for("live mode", lambda: not live.runner.running)
        self._check()

    def _prediction(self) -> npt.NDArray[Any]:
        return np.asarray(self._viewer.layers[f"{PAINTED} · segmentation"].data)

    def _of_kind(self, *kinds: Kind) -> list[Any]:
        return [layer for layer in self._viewer.layers if layer.metadata.get(KIND) in kinds]

    def _until_idle(self, what: str) -> None:
        self._hand.wait_for(what, lambda: self._dock.session.state.idle)
        self._hand.wait(0.3)
        self._check()

    def _check(self) -> None:
        if self._failed:
            raise self._failed[0]

    def _picture(self, name: str) -> None:
        """Write the window as a small PNG: a palette chosen for it is enough."""
        self._check()
        # On a virtual screen no window is active, and napari's messages would stay for ever.
        for message in list(NapariQtNotification._instances):
            message.close()
        self._hand.wait(0.4)
        shot = Image.fromarray(self._viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        path = self._out / f"{name}.png"
        shot.quantize(COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB", flush=True)


def _prepare(dataset: Path, folder: Path) -> npt.NDArray[np.uint8]:
    """Copy the images under short names and return the classes of the painted one, 0 where nobody would paint."""
    folder.mkdir(parents=True)
    for number in NUMBERS:
        (path,) = (dataset / "images").glob(f"fluo_{number:03}_*.png")
        (folder / f"fluo_{number:03}.png").write_bytes(path.read_bytes())
    (labels,) = (dataset / "labels").glob(f"{Path(PAINTED).stem}_*")
    nuclei = imread(labels)
    truth = np.where(nuclei > 0, 2, 1).astype(np.uint8)
    # Nobody draws across the border of two nuclei that touch.
    truth[find_boundaries(nuclei, mode="inner") & (truth == 2) & ~find_boundaries(nuclei > 0, mode="inner")] = 0
    return truth


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of the data sets [AFFMAE_DATA]")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the PNG files")
    parser.add_argument("--minutes", type=float, default=3.0, help="of pretraining")
    return parser


if __name__ == "__main__":
    sys.exit(main())
