"""Step 2: pretrain on the images, watch it, or load a model file and skip it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFileDialog, QPushButton, QWidget

from ..config import CARD_TILE, CPU_TILE, Budget, DeviceName, PretrainConfig
from ..errors import ModelFileError
from ..events import CheckpointSaved, Done, Preview, Progress
from ..model_config import PRESETS, ModelConfig, PresetName, Selection
from .about_button import AboutButton
from .channel_counts import channels_mismatch
from .class_ids import in_layers
from .forms import JobBar, PathField, form_layout, note, row, set_live, set_note, step_layout
from .jobs import ModelRead, load_job, pretrain_job
from .loss_curve import LossCurve
from .pause_button import PauseButton
from .project import LastRun
from .section import Section
from .state import (
    ModelOnDisk,
    Phase,
    count,
    first_of_all,
    is_paused,
    renamed_paint,
    why_not_pretrain,
    why_not_scan,
    why_not_stop,
    with_painted,
)

if TYPE_CHECKING:
    from ..data.records import ImageCollection
    from .session import Session

PRESET_WORDS = {"tiny": "tiny – for CPUs", "small": "small – for graphics cards", "base": "base – for large graphics cards"}
DEVICE_WORDS = {"auto": "automatic", "cpu": "CPU", "cuda": "CUDA graphics card", "mps": "Apple graphics (MPS)"}
SELECTION_WORDS = {"global": "best of the image", "local": "best of every part"}
TILES = (64, 128, 256, 512, 1024)


class PretrainStep(QWidget):
    """The form of step 2."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        settings = session.settings
        self.first = note()
        self.preset = QComboBox()
        for name in PRESETS:
            self.preset.addItem(PRESET_WORDS[name], name)
        self.preset.setCurrentIndex(self.preset.findData(settings.preset))
        self.tile = QComboBox()
        self.tile.addItem("automatic", None)
        for side in sorted({*TILES, settings.tile or TILES[0]}):
            self.tile.addItem(f"{side} × {side} pixels", side)
        self.tile.setCurrentIndex(0 if settings.tile is None else self.tile.findData(settings.tile))
        self.tile.setToolTip(
            "Side of the square crops. Larger ones show more context and need more memory. "
            f"Automatic takes {CPU_TILE} on a CPU and {CARD_TILE} on a graphics card, and less for small images."
        )
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 10_000)
        self.minutes.setDecimals(1)
        self.minutes.setSuffix(" min")
        self.minutes.setValue(settings.minutes)
        self.minutes.setToolTip("Training ends after this time; pauses do not count.")
        self.device = QComboBox()
        for name, words in DEVICE_WORDS.items():
            self.device.addItem(words, name)
        self.device.setCurrentIndex(self.device.findData(settings.device))
        self.project = PathField("Choose a project folder for runs and paint")
        self.project.set_text(settings.project)
        self.selection = QComboBox()
        for name, words in SELECTION_WORDS.items():
            self.selection.addItem(words, name)
        self.selection.setCurrentIndex(self.selection.findData(settings.selection))
        self.selection.setToolTip(
            "Which tokens stay when the network merges them: those that score best in the whole image, as in the paper, or "
            "those that stand out from what is around them, so that no part of an image is emptied."
        )
        self.more = Section("More settings", QWidget())
        self.start = QPushButton("Start")
        self.pause = PauseButton(session, "pretrain", lengthens=True)
        self.stop = QPushButton("Stop")
        self.bar = JobBar("tiles")
        self.curve = LossCurve()
        self.load = QPushButton("Load a model file instead …")
        self.model_note = note()
        self.about = AboutButton(session, lambda state: state.pretrained)
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        layout = step_layout(self)
        layout.addWidget(self.first)
        form = form_layout()
        form.addRow("Network", self.preset)
        form.addRow("Tile", self.tile)
        form.addRow("Time", self.minutes)
        form.addRow("Device", self.device)
        form.addRow("Project", self.project)
        layout.addLayout(form)
        more = form_layout()
        more.addRow("Tokens that stay", self.selection)
        step_layout(self.more.content).addLayout(more)
        layout.addWidget(self.more)
        layout.addLayout(row(self.start, self.pause, self.stop))
        layout.addWidget(self.bar)
        layout.addWidget(self.curve)
        layout.addWidget(self.load)
        layout.addWidget(self.model_note)
        layout.addWidget(self.about)

    def _connect(self) -> None:
        for box in (self.preset, self.tile, self.device, self.selection):
            box.currentIndexChanged.connect(self._remember)
        self.minutes.valueChanged.connect(self._remember)
        self.project.chosen.connect(self._remember)
        self.start.clicked.connect(self._start)
        self.pause.take_up.connect(self._take_up)
        self.stop.clicked.connect(self._session.stop)
        self.load.clicked.connect(self._choose_model)
        self._session.event.connect(self._on_event)
        self._session.job_ended.connect(self._on_job_ended)
        self._session.state.events.connect(self._render)
        self._session.state.events.source.connect(self.refresh)

    # Actions

    def _remember(self) -> None:
        self._session.settings = self._session.settings.replace(
            preset=self.preset.currentData(),
            selection=self.selection.currentData(),
            tile=self.tile.currentData(),
            minutes=self.minutes.value(),
            device=self.device.currentData(),
            project=self.project.text(),
        )
        self._session.open_project()
        self.refresh()

    def refresh(self) -> None:
        """Show where the project goes."""
        self.project.line.setPlaceholderText(str(self._session.project))
        self._render()

    def _start(self) -> None:
        images = self._session.state.images
        run = None if images is None else self._session.new_run("pretrain")
        if images is not None and run is not None:
            self._run(images, run, self._config(images.channels), resume=False)

    def _take_up(self, last: LastRun) -> None:
        images, config = self._session.state.images, last.config
        if images is None or not isinstance(config, PretrainConfig):
            return
        if last.is_over:
            config = config.replace(budget=Budget(minutes=last.seconds / 60 + self.minutes.value()))
        self._run(images, last.run, config, resume=True)
        self._show_earlier(last.run)

    def _run(self, images: ImageCollection, run: Path, config: PretrainConfig, resume: bool) -> None:
        self.curve.clear()
        self.bar.start()
        self._session.layers.reveal_preview()
        self._session.start("pretrain", pretrain_job(self._session.engine, images, run, config, resume))

    def _show_earlier(self, run: Path) -> None:
        """Begin the curve with the steps that a run has behind it."""
        from ..model_report import report  # brings libraries along that the dock does not open with

        with suppress(ModelFileError):
            for trained in report(run).trainings[-1:]:
                for step, loss in zip(trained.steps, trained.losses, strict=True):
                    self.curve.add(step, loss)

    def _config(self, channels: int) -> PretrainConfig:
        preset = cast(PresetName, self.preset.currentData())
        selection = cast(Selection, self.selection.currentData())
        return PretrainConfig(
            model=ModelConfig.preset(preset, in_channels=channels, selection=selection),
            budget=Budget(minutes=self.minutes.value()),
            tile=self.tile.currentData(),
            device=cast(DeviceName, self.device.currentData()),
        )

    def _choose_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Load a model", str(self._session.project), "Models of napari-affmae (*.safetensors)"
        )
        if path:
            self.load_model(Path(path))

    def load_model(self, path: Path) -> None:
        """Read a model file, in the worker, and use it from now on."""
        why_not = why_not_scan(self._session.state)
        if why_not is not None:
            self._session.warn(why_not)
            return
        self._session.start("load", load_job(self._session.engine, path))

    # Reactions

    def _on_event(self, event: object) -> None:
        if isinstance(event, ModelRead):
            state = self._session.state
            before = state.classes
            self._take(event.model)
            mismatch = channels_mismatch(event.model, state.channels)
            also = f" {mismatch}" if mismatch else ""
            self._session.say(f"Loaded {event.model.describe()}.{also}{renamed_paint(before, state.classes, state.painted)}")
        if self._session.state.job != "pretrain":
            return
        if isinstance(event, Progress):
            self.bar.show_progress(event)
            self.curve.add(event.step, event.loss)
        elif isinstance(event, Preview):
            images = self._session.state.images
            self._session.layers.show_preview(event, images.pixel_size if images is not None else None)
        elif isinstance(event, CheckpointSaved):
            begun = "Paused. " if self._session.state.phase is Phase.PAUSED else ""
            self._session.say(f"{begun}Checkpoint saved after {count(event.step, 'step')}.")
        elif isinstance(event, Done):
            self._on_done(event)

    def _on_done(self, done: Done) -> None:
        ended = "Stopped" if done.stopped else "Finished"
        self.bar.show_end(done.step, done.stopped)
        if done.path is not None:
            self._take(self._session.engine.read_model(done.path))
            told = f"{ended} pretraining after {count(done.step, 'step')}; the model is in {done.path}."
            self._session.inform(f"{told} Now paint in step 3.")
        else:
            self._session.inform("Stopped before the first step: nothing was learned.")

    def _take(self, model: ModelOnDisk) -> None:
        """Use a model: any file can be finetuned further, one with classes can segment."""
        self._session.state.pretrained = model
        if model.is_segmenter:
            self._session.state.segmenter = model
            if model.card.classes:
                state = self._session.state
                state.classes = with_painted(in_layers(model.card.classes), state.classes, state.painted)

    def _on_job_ended(self, name: str) -> None:
        if name == "pretrain" and not self.bar.shows_end:
            self.bar.setVisible(False)

    def draw(self) -> None:
        """Draw what the last events brought; called once per batch."""
        self.curve.draw()

    def _render(self) -> None:
        state = self._session.state
        set_note(self.first, first_of_all(state, why_not_pretrain(state)))
        set_live(self.start, why_not_pretrain(state), "Pretrain a new network on the images of step 1")
        set_live(self.stop, why_not_stop(state, "pretrain"), "Save a checkpoint and end")
        self.bar.hold(is_paused(state, "pretrain"))
        set_live(self.load, why_not_scan(state), "Skip pretraining with a model that was trained before")
        self.more.set_summary("" if self.selection.currentData() == "global" else "1 changed")
        for field in (self.preset, self.tile, self.minutes, self.device, self.project, self.selection):
            field.setEnabled(state.idle)
        self.about.setVisible(state.pretrained is not None)
        set_note(self.model_note, "" if state.pretrained is None else f"In use: {state.pretrained.describe()}")
