"""A dock with a fake engine: the same events as the real one, made in milliseconds and without torch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QApplication
from skimage.io import imsave

from napari_affmae.card import ModelCard, PixelSize
from napari_affmae.config import FinetuneConfig, PretrainConfig
from napari_affmae.data.records import ImageCollection
from napari_affmae.engine.bioimageio_check import CheckResult
from napari_affmae.engine.compare import Comparison
from napari_affmae.engine.export import ExportResult
from napari_affmae.events import CheckpointSaved, Done, PartBegun, Preview, Progress, Score, Started
from napari_affmae.model_config import STAGE_NAMES
from napari_affmae.model_report import ModelReport, ScoreReport, TrainingReport
from napari_affmae.widgets import dock as dock_module
from napari_affmae.widgets import settings_store
from napari_affmae.widgets.jobs import Engine
from napari_affmae.widgets.state import ModelOnDisk

os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"


@dataclass
class FakeSegmentation:
    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[Any, ...]


@dataclass
class FakeStage:
    name: str
    positions_rc: np.ndarray
    merge_map: np.ndarray
    density: np.ndarray
    pca: np.ndarray
    effective_rank: float = 12.0
    effective_rank_normalised: float = 0.5


@dataclass
class FakeInspection:
    stages: list[FakeStage]
    pca: np.ndarray


class FakeEngine(Engine):
    """Counts its calls in ``calls`` and keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.steps = 20
        self.step_seconds = 0.005
        self.fail_with: Exception | None = None
        self.models: dict[Path, ModelOnDisk] = {}
        self.examples: list[Any] = []
        self.classes: list[Any] = []
        self.segment_pixel_size: PixelSize | None = None
        self.model_pixel_size: PixelSize | None = None
        self.config: PretrainConfig | None = None
        self.finetune_configs: list[FinetuneConfig] = []
        self.views: list[int] = []
        self.missing: str | None = None
        self.exported: list[Any] = []

    def _leave_run(self, job, run, config, step, facts):
        """Write the files that tell whether a run can go on."""
        (run / "config.json").write_text(json.dumps({"job": job, "settings": config.model_dump(mode="json"), **facts}))
        spent = 60 * config.budget.minutes * step / self.steps
        (run / "log.jsonl").write_text(json.dumps({"step": step, "elapsed_seconds": spent}) + "\n")
        (run / "checkpoint.safetensors").touch()

    def _train(self, job, run, control, channels):
        run.mkdir(parents=True, exist_ok=True)
        yield Started(job, self.steps, "cpu (fake)", "Plain PyTorch runs.")
        if self.fail_with is not None:
            raise self.fail_with
        step = 0
        for step in range(1, self.steps + 1):
            control.wait_while_paused()
            if control.stop_requested:
                break
            time.sleep(self.step_seconds)
            left = (self.steps - step) * self.step_seconds
            yield Progress(job, step, self.steps, step / self.steps, 1 / step, {}, 1e-3, 8.0, left, step * self.step_seconds)
            if job == "pretrain" and step % 5 == 1:
                tile = np.random.default_rng(step).random((32, 32), np.float32)
                yield Preview(job, step, tile, tile, tile)
        path = run / "model.safetensors"
        path.touch()
        yield CheckpointSaved(job, step, path)
        return step, path

    def pretrain(self, images: ImageCollection, run, config, *, resume, control):
        self.calls.append("resume" if resume else "pretrain")
        self.config = config
        step, path = yield from self._train("pretrain", run, control, images.channels)
        self.models[path] = ModelOnDisk(path, images.channels, 0, ModelCard(pixel_size=self.model_pixel_size))
        self._leave_run("pretrain", run, config, step, {})
        yield Done("pretrain", step, path, stopped=control.stop_requested)

    def finetune(self, model, examples, run, config, *, classes, resume, control):
        self.calls.append(f"{'resume' if resume else 'finetune'} {Path(model).name}")
        self.examples = list(examples)
        self.classes = list(classes)
        self.finetune_configs.append(config)
        step, path = yield from self._train("finetune", run, control, 1)
        card = ModelCard(classes=tuple(classes), pixel_size=self.model_pixel_size)
        self.models[path] = ModelOnDisk(path, 1, len(classes), card)
        self._leave_run("finetune", run, config, step, {"start": str(model)})
        yield Score("finetune", step, 0.71, {info.name: 0.7 for info in classes}, 1234)
        yield Done("finetune", step, path, stopped=control.stop_requested)

    def compare(self, model, examples, folder, config, *, classes, control):
        self.calls.append("compare")
        self.finetune_configs.append(config)
        self.examples = list(examples)
        step, _ = yield from self._train("finetune", folder, control, 1)
        scores = [Score("finetune", step, miou, {}, 1234) for miou in (0.71, 0.55)]
        result = None if control.stop_requested else Comparison(*scores, "strokes")
        yield Done("finetune", step, None, stopped=control.stop_requested, result=result)

    def segment(self, model, image, *, device, pixel_size, views, control):
        self.calls.append("segment")
        self.segment_pixel_size = pixel_size
        self.views.append(views)
        classes = self.models[model].card.classes
        gray = image.mean(axis=2)
        chosen = (gray > np.median(gray)).astype(int)
        ids = np.array([info.id for info in classes])
        probabilities = np.stack([(chosen == place).astype(np.float32) for place in range(len(classes))])
        yield Progress("segment", 1, 1, 1.0, 0.0, {}, 0.0, 3.0, 0.0, 0.1)
        yield Done("segment", 1, None, result=FakeSegmentation(ids[np.minimum(chosen, len(ids) - 1)], probabilities, classes))

    def inspect(self, model, image, *, region, device):
        self.calls.append("inspect")
        self.region = region
        image = image if region is None else image[region]
        height, width = image.shape[:2]
        rows, columns = np.indices((height, width))
        stages = []
        for level, name in enumerate(STAGE_NAMES):
            side = 8 * 2**level
            grid = (height // side, width // side)
            positions = np.stack(np.indices(grid), -1).reshape(-1, 2) * float(side) + side / 2
            owner = np.minimum(rows // side, grid[0] - 1) * grid[1] + np.minimum(columns // side, grid[1] - 1)
            colors = np.random.default_rng(level).random((height, width, 3), np.float32)
            stages.append(FakeStage(name, positions, owner.astype(np.int32), (owner % 7 / 6).astype(np.float32), colors))
        return FakeInspection(stages, np.full((height, width, 3), 0.5, np.float32))

    def read_model(self, path):
        return self.models[Path(path)]

    def model_report(self, path):
        if self.fail_with is not None:
            raise self.fail_with
        score = ScoreReport(0.7, {"background": 0.9, "structure": 0.5}, 1234, 20, "strokes")
        pretrained = TrainingReport("pretrain", "Pretrained on 3 images", (("steps", "20"),), (), (), None, frozenset())
        steps, losses = tuple(range(1, 31)), tuple(1 / step for step in range(1, 31))
        trained = TrainingReport("finetune", "Trained on 1 image", (("steps", "30"),), steps, losses, score, frozenset())
        return ModelReport(Path(path), "Segmentation network, 2 classes", (("network", "small"),), (pretrained, trained))

    def why_not_export(self):
        return self.missing

    def export(self, model, out, config, *, sample, control):
        self.calls.append("export")
        self.exported.append((model, out, config, sample))
        if self.fail_with is not None:
            raise self.fail_with
        for part in range(self.steps):
            yield PartBegun("export", "recording the network", part / self.steps)
            time.sleep(self.step_seconds)
            if control.stop_requested:
                yield Done("export", 0, None, stopped=True)
                return
        check = CheckResult(True, (), (), 1.0)
        yield Done("export", 0, out, result=ExportResult(out, "mine", 256, check))


@pytest.fixture(autouse=True)
def _settings_elsewhere(tmp_path, monkeypatch):
    """No test reads or writes the user's settings or home."""
    monkeypatch.setattr(settings_store, "default_path", lambda: tmp_path / "settings" / "dock.json")
    monkeypatch.setattr("napari_affmae.widgets.project.Path.home", lambda: tmp_path / "home")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def image_folder(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 255, (64, 96), np.uint8)
        imsave(folder / f"em_{seed}.png", pixels, check_contrast=False)
    (folder / "broken.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture
def make_dock(make_napari_viewer, qtbot, engine, tmp_path):
    """Return a function that opens the dock in a viewer."""

    def make(viewer=None, fake=True):
        viewer = viewer or make_napari_viewer()
        dock = dock_module.AffmaeDock(viewer, engine if fake else None)
        viewer.window.add_dock_widget(dock, name="AFFMAE", area="right")
        dock.open_step(1)
        for section in dock.sections:
            section.open()
        return dock

    return make


@pytest.fixture
def click(qtbot):
    """Return a function that clicks a button which must be live."""

    def click(button):
        assert button.isEnabled(), f"{button.text()}: {button.toolTip()}"
        # A user sees the button at its place; Qt moves what is below a line that has just gone in a later turn.
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    return click


@pytest.fixture
def wait_idle(qtbot):
    """Return a function that waits until the dock's job has ended."""

    def wait(dock, timeout=20_000):
        qtbot.waitUntil(lambda: dock.session.state.idle, timeout=timeout)

    return wait
