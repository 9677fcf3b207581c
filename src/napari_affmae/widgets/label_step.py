"""Step 3: name classes, paint a few pixels of each, train, segment."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFileDialog, QPushButton, QSpinBox, QWidget

from ..config import FinetuneConfig
from ..errors import cannot_write
from ..events import Done, PartBegun, Progress, Score
from ..words import NOT_FITTED, sentence
from .about_button import AboutButton
from .apply_part import ApplyPart
from .channel_counts import channels_mismatch
from .class_panel import ClassPanel
from .compare_part import ComparePart
from .export_part import ExportPart
from .forms import JobBar, form_layout, note, row, set_live, set_note, step_layout
from .image_bar import ImageBar
from .jobs import finetune_job
from .live import LiveMode
from .next_part import NextPart
from .pause_button import PauseButton
from .probability_box import ProbabilityBox
from .project import LastRun
from .recipe_section import RecipeSection
from .refine_part import RefinePart
from .section import Section
from .segmenting import Segmenting
from .shortcuts import HELP, Shortcuts
from .snapshot_row import SnapshotRow
from .state import (
    Phase,
    count,
    first_of_all,
    is_paused,
    pixel_size_mismatch,
    thousands,
    why_not_live,
    why_not_paint,
    why_not_segment,
    why_not_stop,
    why_not_train,
)

if TYPE_CHECKING:
    from .session import Session


class LabelStep(QWidget):
    """The form of step 3."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        settings = session.settings
        self.first = note()
        self.image = ImageBar(session)
        self.panel = ClassPanel(session)
        self.classes = self.panel.table
        self.paint = QPushButton("Paint")
        self.paint.setCheckable(True)  # only to look pressed while a brush is in the user's hand
        self.brush = QSpinBox()
        self.brush.setRange(1, 200)
        self.brush.setPrefix("brush ")
        self.brush.setSuffix(" px")
        self.brush.setValue(settings.brush)
        self.brush.setToolTip(HELP)
        self.snapshots = SnapshotRow(session)
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.1, 10_000)
        self.minutes.setDecimals(1)
        self.minutes.setSuffix(" min")
        self.minutes.setValue(settings.train_minutes)
        self.from_scratch = QCheckBox("From scratch, without pretraining")
        self.from_scratch.setChecked(settings.from_scratch)
        self.from_scratch.setToolTip("Train a new network of step 2's size on the paint alone, for comparison")
        self.recipe = RecipeSection(session)
        self.train = QPushButton("Train")
        self.pause = PauseButton(session, "finetune")
        self.stop = QPushButton("Stop")
        self.live = QPushButton("Live")
        self.live.setCheckable(True)
        self.live_mode = LiveMode(session)
        self.live_status = note()
        self.bar = JobBar("tiles")
        self.score = note()
        self.compare = ComparePart(session)
        self.pixel_note = note()
        self.rescale = QCheckBox("Rescale images to the model's pixel size")
        self.rescale.setChecked(True)
        self.segment = QPushButton("Segment image")
        self.segment_visible = QPushButton("Segment all shown")
        self.segment_slices = QPushButton("Segment all slices")
        self.probabilities = ProbabilityBox(session)
        self.segmenting = Segmenting(session, self.bar, self.rescale.isChecked)
        self.save_model = QPushButton("Save model …")
        self.about = AboutButton(session, lambda state: state.segmenter)
        self.next = NextPart(session, self.rescale.isChecked)
        self.refine = RefinePart(session)
        self.apply = ApplyPart(session, self.refine.active, self.rescale.isChecked)
        self.share = ExportPart(session)
        self.next_section = Section("Where to paint next", self.next)
        self.parts = (
            Section("Refine", self.refine),
            Section("Apply to all images", self.apply),
            Section("Share", self.share),
        )
        self.shortcuts = Shortcuts(session, self)
        self._lay_out()
        self._connect()
        self._render()

    def _lay_out(self) -> None:
        layout = step_layout(self)
        layout.addWidget(self.first)
        layout.addWidget(self.image)
        layout.addWidget(self.panel)
        layout.addLayout(row(self.paint, self.brush))
        layout.addWidget(self.snapshots)
        form = form_layout()
        form.addRow("Time", self.minutes)
        layout.addLayout(form)
        layout.addWidget(self.from_scratch)
        layout.addWidget(self.recipe)
        layout.addLayout(row(self.live, self.train, self.pause, self.stop))
        layout.addWidget(self.live_status)
        layout.addWidget(self.bar)
        layout.addWidget(self.score)
        layout.addWidget(self.compare)
        layout.addWidget(self.pixel_note)
        layout.addWidget(self.rescale)
        layout.addLayout(row(self.segment, self.segment_visible))
        layout.addWidget(self.segment_slices)
        layout.addWidget(self.probabilities)
        layout.addLayout(row(self.save_model, self.about))
        layout.addWidget(self.next_section)
        for part in self.parts:
            layout.addWidget(part)

    def _connect(self) -> None:
        session = self._session
        self.classes.class_selected.connect(self._hold_brush)
        self.panel.changed.connect(self._remember)
        self.paint.clicked.connect(self._paint)
        self.paint.clicked.connect(self._show_painting)
        session.layers.tool_taken.connect(self._show_painting)
        session.layers.current_changed.connect(self._show_painting)
        self.brush.valueChanged.connect(self._on_brush)
        self.minutes.valueChanged.connect(self._remember)
        self.from_scratch.toggled.connect(self._remember)
        self.probabilities.toggled.connect(self._remember)
        self.live.toggled.connect(self._toggle_live)
        self.live_mode.said.connect(self._say_live)
        self.live_mode.ended.connect(self._end_live)
        session.closing.connect(self.live_mode.close)
        self.train.clicked.connect(self._train)
        self.pause.take_up.connect(self._take_up)
        self.stop.clicked.connect(session.stop)
        self.segment.clicked.connect(self.segmenting.current)
        self.segment_visible.clicked.connect(self.segmenting.visible)
        self.segment_slices.clicked.connect(self.segmenting.slices)
        self.save_model.clicked.connect(self._save_model)
        session.event.connect(self._on_event)
        session.job_ended.connect(self._on_job_ended)
        session.state.events.connect(self._render)
        session.state.events.classes.connect(session.layers.color_classes)
        session.state.events.classes.connect(self._leave_lost_classes)
        session.opener.opened.connect(self._on_opened)
        session.project_opened.connect(self._on_project_opened)

    # Paint

    def _paint(self) -> None:
        plane = self._session.layers.current()
        info = self.classes.selected()
        if plane is None or info is None or not self._session.restorer.restore(plane):
            return
        if self._session.state.job != "pretrain":
            self._session.layers.put_preview_away()
        layer = self._session.layers.paint_on(plane, self._session.state.classes)
        self._session.layers.hold_brush(layer, info.id, self.brush.value())
        self._session.say(f"Painting “{info.name}” on {plane.name}.")

    def _hold_brush(self) -> None:
        """Take the brush of the selected class, if the current image has paint."""
        plane = self._session.layers.current()
        if plane is not None and self._session.layers.paint_layer(plane.group) is not None:
            self._paint()

    def _leave_lost_classes(self) -> None:
        """Give brushes the selected class where theirs is gone: the next stroke would bring its label back, without a name."""
        info, ids = self.classes.selected(), {0, *(info.id for info in self._session.state.classes)}
        for layer in self._session.layers.paint_layers().values():
            if info is not None and layer.selected_label not in ids:
                layer.selected_label = info.id

    def _show_painting(self) -> None:
        self.paint.setChecked(self._session.layers.is_painting())

    def _on_brush(self) -> None:
        self._remember()
        keeper = self._session.keeper
        keeper.update(settings=keeper.file.settings.replace(brush=self.brush.value()))
        self._hold_brush()

    def show_brush(self, size: int) -> None:
        """Show the brush that napari's controls chose."""
        self.brush.blockSignals(True)
        self.brush.setValue(size)
        self.brush.blockSignals(False)

    def _on_opened(self, painting: bool) -> None:
        if painting and why_not_paint(self._session.state) is None:
            self._paint()

    def _on_project_opened(self) -> None:
        self._show_painting()
        if self._session.keeper.file.settings.brush is not None:
            self.show_brush(self._session.keeper.file.settings.brush)

    def _remember(self) -> None:
        self._session.settings = self._session.settings.replace(
            brush=self.brush.value(),
            train_minutes=self.minutes.value(),
            from_scratch=self.from_scratch.isChecked(),
            probabilities=self.probabilities.isChecked(),
            classes=self._session.state.classes,
        )
        self._render()

    # Jobs

    def _train(self) -> None:
        self._run(self._start_model(), None, self._session.settings.training())

    def _take_up(self, last: LastRun) -> None:
        if isinstance(last.config, FinetuneConfig):
            self._run(last.start, last.run, last.config)

    def _run(self, model: Path | str, begun: Path | None, config: FinetuneConfig) -> None:
        session = self._session
        material = session.training_material()
        run = begun if begun is not None or material is None else session.new_run("finetune")
        if material is None or run is None:
            return
        paint, classes = material
        self.bar.start()
        set_note(self.score, "")
        session.start("finetune", finetune_job(session.engine, model, paint, run, config, classes, begun is not None))

    def _start_model(self) -> Path | str:
        """Return what training starts from."""
        session = self._session
        if self.from_scratch.isChecked() or session.state.pretrained is None:
            return f"scratch:{session.settings.preset}"
        return session.state.pretrained.path

    def _toggle_live(self, on: bool) -> None:
        if on:
            self.bar.setVisible(False)  # what it says of the last run is not so of what Live makes of it
            start = self._session.state.live_start(self.from_scratch.isChecked())
            self.live_mode.start(self._start_model() if start is None else start.path)
            self._session.say("Live is on: the network learns after every stroke.")
        elif self.live_mode.on:
            self.live_mode.stop()
            self._session.say("Live is off.")
        self._render()

    def _say_live(self, text: str, figures: str) -> None:
        set_note(self.live_status, text)
        self.live_status.setToolTip(figures)

    def _end_live(self) -> None:
        self.live.setChecked(False)

    def _save_model(self) -> None:
        model = self._session.state.segmenter
        if model is None:
            return
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the model", str(self._session.project / "segmenter.safetensors"), "Models (*.safetensors)"
        )
        if not path:
            return
        try:
            shutil.copyfile(model.path, path)
        except OSError as error:
            self._session.fail(cannot_write(Path(path), error))
            return
        self._session.say(f"Saved the model as {path}.")

    # Reactions

    def _on_event(self, event: object) -> None:
        if self._session.state.job != "finetune":
            return
        if isinstance(event, Progress):
            self.bar.show_progress(event)
        elif isinstance(event, PartBegun):
            self.bar.show_part(event.fraction, f"{event.what} · {event.fraction:.0%}")
            if self._session.state.phase not in (Phase.PAUSED, Phase.STOPPING):
                self._session.say(sentence(f"{event.what} …"))
        elif isinstance(event, Score):
            each = ", ".join(f"{name} {value:.2f}" for name, value in event.iou.items())
            set_note(
                self.score,
                f"This training: mIoU {event.miou:.2f} ({each}), on {thousands(event.pixels)} painted pixels kept back from it",
            )
        elif isinstance(event, Done):
            self._on_trained(event)

    def _on_trained(self, done: Done) -> None:
        ended = "Stopped" if done.stopped else "Finished"
        self.bar.show_end(done.step, done.stopped)
        rough = done.summary.get("classes_from") == NOT_FITTED
        stays = rough and self._session.state.segmenter is not None
        if done.path is not None and not stays:
            self._session.state.segmenter = self._session.engine.read_model(done.path)
        if done.path is None:
            self._session.inform("Stopped before the first step: nothing was trained.")
        elif rough:
            what = "the network that was in use stays" if stays else "classes are rough; Resume fits it"
            self._session.inform(f"Stopped before a readout was fitted to the strokes: {what}.")
        else:
            hint = "" if self.live_mode.on else " Now click Segment image."
            self._session.inform(f"{ended} training after {count(done.step, 'step')}.{hint}")
        if stays:
            set_note(self.score, "")  # it is that of the network that was not taken
        elif not self.score.text() and not done.stopped:
            set_note(self.score, "No held-out score: paint a little more of every class to get one.")

    def _on_job_ended(self, name: str) -> None:
        if name in ("finetune", "segment") and (self.live_mode.on or not self.bar.shows_end):
            self.bar.setVisible(False)

    def _render(self) -> None:
        state = self._session.state
        image = state.image
        why_not_begin = why_not_train(state, self.from_scratch.isChecked())
        is_begun = state.segmenter is not None or self.live.isChecked()
        set_note(self.first, first_of_all(state, why_not_paint(state), None if is_begun else why_not_begin))
        set_live(self.paint, why_not_paint(state), "Paint the selected class on the current image")
        set_live(self.train, why_not_begin, "Train on the painted pixels of all images")
        why_not = None if self.live.isChecked() else why_not_live(state, self.from_scratch.isChecked())
        tip = "Train a little after every stroke, on all paint of the project, and show the result at once"
        set_live(self.live, why_not, tip)
        self.bar.hold(is_paused(state, "finetune"))
        for field in (self.minutes, self.from_scratch, self.recipe.content):
            field.setEnabled(state.idle)
        finishing = state.phase is Phase.FINISHING
        rough = state.segmenter is None
        end = ": the classes stay rough until you click Resume" if rough else " and keep the network that is in use"
        tip = f"End now{end}" if finishing else "Save what is there and end"
        set_live(self.stop, why_not_stop(state, "finetune", "segment"), tip)
        set_live(self.segment, why_not_segment(state), "Segment the current image")
        plane = self._session.layers.current()
        self.segment_slices.setVisible(plane is not None and bool(plane.index))
        set_live(self.segment_slices, why_not_segment(state), "Segment every slice of the current image, the shown one first")
        set_live(
            self.segment_visible,
            why_not_segment(state),
            "Segment every image whose eye is open in the layer list",
        )
        no_model = None if state.segmenter is not None else "There is no segmentation network yet."
        set_live(self.save_model, no_model, "Save the network with its classes in one file")
        mismatch = None
        if state.segmenter is not None and image is not None:
            mismatch = pixel_size_mismatch(image.pixel_size, state.segmenter.card.pixel_size)
        set_note(self.pixel_note, channels_mismatch(state.model, state.channels) or mismatch or "")
        self.rescale.setVisible(mismatch is not None)
