"""The training loop of pretraining and finetuning: steps, events, checkpoints, pauses, and what to do when one fails."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import affmae_kernels
import torch
from torch import Tensor

from ..card import ModelCard
from ..control import JobControl
from ..errors import AffmaeError, DeviceError, ModelFileError, StorageError
from ..events import CheckpointSaved, Done, Event, Notice, PartBegun, Progress, Score, Started
from ..model.model_file import save_model
from ..model_header import read_card
from ..words import count
from .average import WeightAverage
from .batches import Batches
from .checkpoint import Checkpoint, Progressed, restore, save_checkpoint
from .clock import Clock
from .curve import Curve
from .device import describe_device, is_out_of_memory, make_fabric, seeded
from .health import Health
from .optimizer import OptimizerSettings, make_optimizer, set_learning_rate
from .run_folder import RunFolder
from .schedule import Schedule
from .task import Task
from .training_step import LEFT_OUT, Measured, TrainingStep

READ_SECONDS = 0.1
"""Least time between two looks at the losses on a graphics card."""

FIRST_CHECKPOINT = 1 / 6
"""Part of the time between checkpoints after which there is a first one."""

BAD_STEPS = 20
"""Steps in a row without a finite loss after which a run gives up. Float16 scaling may need a dozen to find its range."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop.

    Attributes
    ----------
    checkpoint_seconds
        Least time between two checkpoints.
    average
        Decay of the average of the weights that is shown and saved in their place; 0 for the weights themselves.
    """

    schedule: Schedule
    optimizer: OptimizerSettings
    seed: int
    checkpoint_seconds: float
    average: float = 0.0


def train(
    task: Task, settings: LoopSettings, run: RunFolder, device: torch.device, control: JobControl, start: Checkpoint | None
) -> Iterator[Event]:
    """Train until the budget is used or a stop is asked for; see :class:`Trainer`.

    Yields
    ------
    Event
        ``Started``, then at least a ``Progress`` per step, ``CheckpointSaved`` now and then, ``Done`` at the end.
    """
    trainer = Trainer(task, settings, run, device, control, start)
    try:
        yield from trainer.run()
    finally:
        trainer.step.forget()  # the next job may need the memory of what was recorded


class Trainer:
    """One training run from its first or its next step to its end.

    Nothing is lost when something fails: a full disk only postpones a checkpoint, exhausted memory cuts batches into parts
    whose gradients add up, a step whose loss is not finite is left out, and an error that ends the run saves it first.
    """

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        run: RunFolder,
        device: torch.device,
        control: JobControl,
        start: Checkpoint | None,
    ) -> None:
        self.task = task
        self.settings = settings
        self.folder = run
        self.device = device
        self.control = control
        self.fabric = make_fabric(device)
        # Model and optimizer stay bare: outputs are frozen dataclasses, which Fabric's wrapper of a model cannot convert.
        self.optimizer = make_optimizer(task.model, settings.optimizer, device)
        self.step = TrainingStep(task.model, task.loss, self.optimizer, self.fabric, settings.optimizer.clip)
        self.done = replace(start.progressed if start is not None else Progressed(), batch=task.batch)
        if start is not None:
            restore(start, task.model, self.optimizer)
            if self.done.scaler is not None:
                self.fabric.strategy.precision.load_state_dict(self.done.scaler)
        self.average = WeightAverage(task.model, settings.average) if settings.average > 0 else None
        if self.average is not None:
            if start is not None:
                self.average.restore(start.average)
            task.result = self.average.shown
        self.card = task.model.card
        if start is not None:
            # The model may be of fewer steps, or lost. Curve and data of the checkpoint reach as far as the run does; its
            # figures are those of a model that was to be written behind it, and may never have been.
            reached = {name: start.record[name] for name in ("data", "curve")}
            task.earlier = {**start.record, **_earlier_record(run, self.card), **reached}
        # A run on strokes that was taken up and stopped again: its model is of fewer steps, see Task.rough.
        behind = task.earlier.get("steps", self.done.step) < self.done.step
        self.unfinished = task.unfinished or behind
        self.curve = Curve.resumed(task.earlier.get("curve"))
        self.clock = Clock(self.done.elapsed)
        self.health = Health(device, self.done.skipped)
        self.losses: dict[str, float] = {}
        self.rate = 0.0
        self.used = 0.0
        # The checkpoint is written first: a run that died in between still has to write its model.
        self.saved_step = self.done.step if start is not None and (task.rough or not behind) else None
        self.saved_at = time.perf_counter()
        self.read_at = float("-inf")
        self.log_failed = False

    @property
    def fraction(self) -> float:
        """Used part of the budget."""
        return self.settings.schedule.fraction(self.done.step, self.clock.elapsed)

    def run(self) -> Iterator[Event]:
        """Make the steps; see :func:`train`."""
        yield Started(
            self.task.job,
            total_steps=self.settings.schedule.total_steps,
            device=describe_device(self.device),
            kernels=affmae_kernels.describe(self.device),
            parameters=sum(parameter.numel() for parameter in self.task.model.parameters()),
            start_step=self.done.step,
        )
        if self.fraction >= 1 and not self.unfinished:
            done = count(self.done.step, "step")
            yield self._notice(f"this run is finished already, after {done}: give a larger --steps or --minutes to go on")
        first = self.done.step
        # Reading data and building the model is over; the budget starts to count here.
        self.clock = Clock(self.done.elapsed)
        self.used = self.fraction
        try:
            yield from self._steps()
        except Exception:
            self._save_quietly()
            raise
        stopped = self.used < 1
        if self.done.step == 0:  # there is nothing to keep
            yield Done(self.task.job, 0, None, stopped=stopped, summary=self._summary(False))
            return
        # Before anything else: whatever finishing runs into, the steps are not lost.
        yield from self._save(final=True)
        worked = self.done.step > first or self.unfinished
        if worked:
            stopped |= yield from self._finish()
            if self.task.unsaved:
                self.saved_step = None
                yield from self._save(final=True)
            if self.task.rough and self.folder.model.is_file():
                steps = count(self.task.earlier.get("steps", 0), "step")
                yield self._notice(f"{self.folder.model} stays the network of {steps} until this run is finished, see --resume")
        yield Done(self.task.job, self.done.step, self.folder.model, stopped=stopped, summary=self._summary(worked))

    def _steps(self) -> Iterator[Event]:
        """Make steps until the budget is used or a stop is asked for."""
        with Batches(self.task.read, self.device) as batches:
            while self.used < 1 and not self.control.stop_requested:
                if self.control.paused:
                    if self.done.step:
                        yield from self._save(final=False)
                    self.clock.leave_out(self.control.wait_while_paused())
                    continue
                before = self.used
                yield from self._step(batches)
                yield from self._told(self.task.after_step(self.done.step, before, self.used))
                if time.perf_counter() - self.saved_at >= self._checkpoint_seconds:
                    yield from self._save(final=False)

    @property
    def _checkpoint_seconds(self) -> float:
        """Seconds from one checkpoint to the next; the first comes sooner, as a run that dies before it is lost."""
        seconds = self.settings.checkpoint_seconds
        return seconds if self.saved_step is not None else FIRST_CHECKPOINT * seconds

    def _finish(self) -> Generator[Event, None, bool]:
        """Let the task do what is left to do; return whether it was asked to stop, or to stop again, meanwhile.

        It is no step, and costs none of the budget.
        """
        # The first stop ended the steps; a second one leaves out what follows them, also if it came before they had ended.
        asked, elapsed = int(self.control.stop_requested), self.clock.elapsed
        try:
            with self.task.result():
                for event in self._told(self.task.finish(self.done.step)):
                    yield event
                    if isinstance(event, PartBegun) and self.control.stops > asked:
                        return True
                    self.control.wait_while_paused()
        finally:
            self.clock = Clock(elapsed)
        return False

    def _told(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass on what a task says, and write its scores down."""
        for event in events:
            yield event
            if isinstance(event, Score):
                score = {"miou": event.miou, "iou": dict(event.iou), "pixels": event.pixels}
                yield from self._log({"step": event.step, **score})

    def _step(self, batches: Batches) -> Iterator[Event]:
        fraction = self.fraction
        self.rate = self.settings.optimizer.learning_rate * self.settings.schedule.factor(fraction)
        set_learning_rate(self.optimizer, self.rate)
        tensors = batches.get(self.done.step)
        while True:
            measured = self._try(tensors)
            if measured is not None:
                break
            yield self._use_less_memory()
        self.health.note(measured.pop(LEFT_OUT))
        self.clock.count(self.task.batch)
        self.done = replace(self.done, step=self.done.step + 1, elapsed=self.clock.elapsed)
        if self.average is not None:
            self.average.update(self.done.step)
        yield from self._progress(measured)

    def _try(self, tensors: tuple[Tensor, ...]) -> Measured | None:
        """Make a step; None if memory ran out."""
        try:
            with seeded(self.device, self.settings.seed, self.done.step) as generator:
                return dict(self.step(self.task.prepare(tensors, generator), self.done.passes))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the except clause: the traceback holds the tensors that have to go.
        self.step.forget()
        return None

    def _progress(self, measured: Measured) -> Iterator[Event]:
        now = time.perf_counter()
        # One look at the clock decides whether this was the last step and what the event says of it.
        fraction = self.used = self.fraction
        # Reading a loss waits for the graphics card to catch up, so it is done ten times a second, not once a step; events in
        # between repeat the last known losses. On a CPU there is nothing to wait for.
        fresh = self.device.type == "cpu" or now - self.read_at >= READ_SECONDS or fraction >= 1
        if fresh:
            self.read_at = now
            self.losses, left_out, in_a_row = self.health.read(measured)
            self.done = replace(self.done, skipped=self.health.total)
            if in_a_row >= BAD_STEPS:
                raise self._hopeless(in_a_row)
            if left_out:
                steps = "a step was" if left_out == 1 else f"{left_out} steps were"
                yield self._notice(f"the loss was not finite: {steps} left out before step {self.done.step + 1}")
        total = self.settings.schedule.total_steps
        if total is not None:
            eta = self.clock.eta((total - self.done.step) * self.task.batch)
        else:
            eta = self.clock.elapsed * (1 / fraction - 1) if fraction > 0 else None
        event = Progress(
            self.task.job,
            step=self.done.step,
            total_steps=total,
            fraction=fraction,
            loss=self.losses["loss"],
            losses={name: value for name, value in self.losses.items() if name != "loss"},
            lr=self.rate,
            images_per_second=self.clock.rate,
            eta_seconds=eta,
            elapsed_seconds=self.clock.elapsed,
        )
        yield event
        if fresh:
            self.curve.add(event.step, event.loss)
            yield from self._log(
                {
                    "step": event.step,
                    **self.losses,
                    "lr": event.lr,
                    "images_per_second": round(event.images_per_second, 3),
                    "elapsed_seconds": round(event.elapsed_seconds, 3),
                }
            )

    def _use_less_memory(self) -> Notice:
        """Cut batches into twice as many parts; raise :class:`DeviceError` if a part is one tile already."""
        at_once = -(-self.task.batch // self.done.passes)
        if at_once == 1:
            raise DeviceError(
                f"memory of {describe_device(self.device)} is exhausted by a single tile: lower the tile size, "
                "choose a smaller preset, close other programs that use it, or take another device"
            )
        self.done = replace(self.done, passes=min(self.task.batch, 2 * self.done.passes))
        at_once = -(-self.task.batch // self.done.passes)
        return self._notice(
            f"memory of {describe_device(self.device)} is exhausted: each batch of {self.task.batch} tiles now goes through "
            f"in parts of {at_once}; a smaller batch or tile would be faster"
        )

    def _hopeless(self, in_a_row: int) -> AffmaeError:
        self._save_quietly()  # now, to tell of it
        saved = f"step {self.saved_step} is saved in {self.folder.path}" if self.saved_step else "nothing was worth saving yet"
        return AffmaeError(
            f"the loss was not finite in {in_a_row} steps in a row, so the run ended at step {self.done.step}; {saved}: "
            "lower the learning rate, or look for images with extreme values"
        )

    def _save(self, *, final: bool) -> Iterator[Event]:
        """Write the model and a checkpoint; a full disk is an error only where there is no later chance."""
        self.saved_at = time.perf_counter()
        if self.saved_step == self.done.step and self.folder.model.is_file():
            return
        try:
            self._write()
        except StorageError as error:
            if final:
                raise
            yield self._notice(f"no checkpoint yet, the run goes on and tries again later: {error}")
            return
        yield CheckpointSaved(self.task.job, self.done.step, self.folder.checkpoint)

    def _save_quietly(self) -> None:
        """Save what there is before an error ends the run; the error at hand is the one to report."""
        learned = self.done.step > self.done.skipped
        if learned and self.done.step > (self.saved_step or 0):
            with suppress(Exception):  # a graphics card that failed cannot be read either
                self._write()

    def _write(self) -> None:
        model = self.task.model
        # Each save starts from the card that the run began with: the history gets one record per run, not one per save.
        model.card = self.card
        spent = {"steps": self.done.step, "seconds": round(self.clock.elapsed, 1)}
        scaler = self.fabric.strategy.precision.state_dict() or None
        self.done = replace(self.done, elapsed=self.clock.elapsed, scaler=scaler)
        average = self.average.state() if self.average is not None else None
        facts = {**self.task.provenance(), "curve": self.curve.record()}
        record = {name: facts[name] for name in ("data", "curve", "figures")}
        save_checkpoint(self.folder.checkpoint, self.task.job, self.done, self.card, record, model, self.optimizer, average)
        # Behind the checkpoint: where there is none, a new run may begin, and there must be no model that it would replace.
        if not (self.task.rough and self.folder.model.is_file()):
            with self.task.result():
                save_model(model, self.folder.model, **facts, **spent)
        self.saved_step = self.done.step

    def _log(self, record: dict[str, Any]) -> Iterator[Event]:
        try:
            self.folder.append_log(record)
        except StorageError as error:
            if not self.log_failed:
                yield self._notice(f"the log has gaps: {error}")
            self.log_failed = True

    def _notice(self, message: str) -> Notice:
        return Notice(self.task.job, message)

    def _summary(self, worked: bool) -> dict[str, Any]:
        return {
            "steps": self.done.step,
            "seconds": round(self.clock.elapsed, 3),
            **self.losses,
            **self.curve.ends(),
            "left_out_steps": self.done.skipped,
            **(self.task.figures() if worked else self.task.earlier.get("figures", self.task.figures())),
        }


def _earlier_record(run: RunFolder, start: ModelCard) -> Mapping[str, Any]:
    """Return the record of a run that is resumed, from the model that it saved last; ``start`` is the card it began with."""
    try:
        history = read_card(run.model).card.history
    except ModelFileError:  # the checkpoint is what a run goes on from; a lost model is only written again
        return {}
    return history[-1] if len(history) > len(start.history) else {}
