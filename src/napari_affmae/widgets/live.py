"""Live mode: every finished stroke starts a short round of training; its predictions go into the segmentation layer.

Only the newest paint counts: a request replaces the one before it, and what comes from an older one is dropped. Layers are left
alone while a mouse button is down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal, SignalInstance
from qtpy.QtCore import QTimer

from ..events import ImageBegun, LivePrediction, LiveRound, LiveStep, Notice
from .live_worker import LiveSaved, LiveWorker, Training, Wanted
from .plane import Plane
from .state import JOB_WORDS

if TYPE_CHECKING:
    from napari.layers import Layer

    from .session import Session

STROKE_MILLISECONDS = 20
"""A fill or a polygon changes the paint several times at once; they count as one."""

REDRAWN_MILLISECONDS = 100
"""Undo shows in nothing but redrawing, which also comes when the user scrolls."""

TURN_MILLISECONDS = 30
"""napari makes a layer in almost 0.1 s and first draws it in half of that. In between the window hears the mouse."""

IDLE_MILLISECONDS = 4000
FINE_ROUNDS = 3
"""After so long without a stroke the network learns too, this often at most until the next stroke."""


class LiveMode:
    """Listens to paint, trains in a worker, shows what comes back.

    Signals
    -------
    said(str, str)
        One line about what it does, and figures for its tooltip.
    ended()
        Live mode was switched off because of an error.
    """

    said = Signal(str, str)
    ended = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._worker = LiveWorker(session)
        self.runner = self._worker.runner
        self.on = False
        self._training = Training("", session.project)
        self._taking = False
        self._missed = False
        self._generation = 0
        self._latest: Wanted | None = None
        self._plane: Plane | None = None
        self._held: list[object] = []
        self._turns: list[Callable[[], None]] = []
        self._down = False
        self._fine_rounds = 0
        self.rounds: list[LiveRound] = []
        self._soon = _timer(self._look)
        self._later = _timer(self._take_turn, TURN_MILLISECONDS)
        self._idle = _timer(self._refine, IDLE_MILLISECONDS)
        self.runner.batch.connect(self._on_batch)
        self.runner.failed.connect(self._on_failed)
        self.runner.ended.connect(self._on_ended)

    def start(self, model: Path | str) -> None:
        """Switch on, starting from a model."""
        self.on = True
        self._start_over(model)
        self._session.layers.put_looks_away()
        self._session.viewer.mouse_drag_callbacks.append(self._drag)
        for signal, reaction in self._heard():
            signal.connect(reaction)
        self._say_missing()
        self._look()

    def _start_over(self, model: Path | str) -> None:
        """Train another model from now on; nothing of the one before is taken any more."""
        self._training = Training(model, self._session.project, self._session.state.segmenter)
        self._latest = None
        self._held = []
        self._generation += 1
        self._worker.drop(self._generation)

    def _heard(self) -> Sequence[tuple[SignalInstance, Callable[[], None]]]:
        """Return what is listened to while live mode is on."""
        layers, events = self._session.layers, self._session.state.events
        return (
            (layers.painted, self._on_painted),
            (layers.paint_redrawn, self._on_redrawn),
            (layers.current_changed, self._on_redrawn),
            (events.classes, self._on_redrawn),
            (events.job, self._on_job),
            (events.segmenter, self._on_model),
            (self._session.project_opened, self._on_project),
        )

    def stop(self) -> None:
        """Switch off; the round at hand ends after its current step."""
        if not self.on:
            return
        self.on = False
        self._session.viewer.mouse_drag_callbacks.remove(self._drag)
        for signal, reaction in self._heard():
            signal.disconnect(reaction)
        for timer in (self._soon, self._later, self._idle):
            timer.stop()
        while self._turns:
            self._turns.pop(0)()
        self._worker.drop(self._generation)
        self._held, self._down = [], False
        self.runner.stop()
        self._say("")

    def close(self, timeout: float) -> bool:
        """Switch off for good; return whether the worker has ended within ``timeout`` seconds."""
        # The window may be gone already: no layer is touched.
        self._turns = []
        self.stop()
        self._training, self._latest = Training("", self._session.project), None
        return self.runner.close(timeout)

    # What the user does

    def _drag(self, viewer: object, event: Any) -> Iterator[None]:
        """Note when a mouse button is down, as napari's drag callbacks tell it."""
        self._down = True
        yield
        while event.type == "mouse_move":
            yield
        self._down = False
        QTimer.singleShot(0, self._on_released)

    def _on_released(self) -> None:
        self._show_held()
        if self._missed:
            self._look()

    def _on_painted(self) -> None:
        self._soon.start(STROKE_MILLISECONDS)

    def _on_redrawn(self) -> None:
        if not self._soon.isActive():
            self._soon.start(REDRAWN_MILLISECONDS)

    def _on_job(self) -> None:
        """Make room for another job, and come back after it."""
        job = self._session.state.job
        if job is None:
            self._say("Live goes on …")
            self._latest = None
            self._on_redrawn()
        else:
            self.runner.stop()
            self._idle.stop()
            self._say(f"Live waits while {JOB_WORDS[job]} is under way.")

    def _on_model(self) -> None:
        """Go on with a network that was trained or loaded meanwhile."""
        segmenter = self._session.state.segmenter
        if not self._taking and segmenter is not None:
            self._start_over(segmenter.path)
            self._on_redrawn()

    def _on_project(self) -> None:
        """Leave the model of the project before as it is."""
        segmenter = self._session.state.segmenter
        self._start_over(self._training.model if segmenter is None else segmenter.path)
        self._on_redrawn()

    def _look(self) -> None:
        """Ask for a round if paint, classes or the image have changed."""
        # Undo is noticed a moment later, when the mouse may be down already.
        self._missed = self._down
        if not self.on or self._down or not self._session.state.idle:
            return
        plane = self._session.layers.current()
        if plane is None:
            self._wait_for_image()
            return
        before = self._latest
        known = {record.name: labels for record, labels in before.paint} if before is not None else {}
        paint = []
        for record, labels in self._session.layers.painted_planes():
            old = known.get(record.name)
            same = old is not None and np.array_equal(old, labels)
            paint.append((record, old if old is not None and same else labels))
        classes, closed = self._session.state.classes, self._session.closed_paint()
        if (
            before is not None
            and before.image.name == plane.name
            and before.classes == classes
            and before.closed == closed
            and len(before.paint) == len(paint)
            and all(known.get(record.name) is labels for record, labels in paint)
        ):
            return
        self._plane, self._fine_rounds = plane, 0
        visible = self._session.layers.visible_part(plane)
        self._ask(Wanted(self._training, 0, paint, plane.record(), visible, classes, closed, perf_counter()))

    def _wait_for_image(self) -> None:
        """Train for no image; whichever comes is looked at anew."""
        self._latest, self._plane = None, None
        self._idle.stop()
        self._generation += 1
        self._worker.drop(self._generation)
        self._say("Live waits for an image: open one.")

    def _refine(self) -> None:
        latest = self._latest
        if not self.on or latest is None or not self._session.state.idle or self.runner.running or not self.rounds:
            return
        self._fine_rounds += 1
        self._ask(replace(latest, asked=perf_counter(), fine=True))

    def _ask(self, wanted: Wanted) -> None:
        self._idle.stop()
        self._generation += 1
        self._held = []
        wanted = replace(wanted, generation=self._generation)
        self._latest = wanted
        self._worker.ask(wanted)

    # What comes back, on the main thread

    def _on_batch(self, events: tuple[object, ...]) -> None:
        if not self.on:
            # The worker that was told to end leaves the model as it is by then; what it predicted no longer matters.
            for event in events:
                if isinstance(event, LiveSaved) and self._session.state.idle:
                    self._take(event)
            return
        self._held += [event for event in events if getattr(event, "generation", self._generation) == self._generation]
        if not self._down:
            self._show_held()

    def _show_held(self) -> None:
        if self._down or not self.on:
            return
        events, self._held = self._held, []
        parts = [event for event in events if isinstance(event, LivePrediction)]
        plane = self._plane
        if parts and plane is not None and plane.layer in self._session.layers.images():
            if not self._session.restorer.restore(plane):
                self._end()
                return
            made = self._session.layers.show_parts(plane, parts, self._session.state.classes)
            self._turns += self._to_complete(plane, made)
            self._turns.append(partial(self._show_unsure, plane, parts))
        for event in events:
            if isinstance(event, LiveStep):
                self._say("Improving …" if event.fine else "Learning …", f"Step {event.step} · loss {event.loss:.2f}")
            elif isinstance(event, LiveSaved):
                self._take(event)
            elif isinstance(event, LiveRound):
                self._report(event)
            elif isinstance(event, ImageBegun):
                self._say(f"Taking up the paint on closed images: {event.place} of {event.count} …")
            elif isinstance(event, Notice):
                self._session.warn(event.message)
        if self._turns:
            self._later.start()

    def _take_turn(self) -> None:
        """Do one of the things that a prediction still needs, and leave the next to the next turn."""
        if self._turns and self.on and not self._down:
            self._turns.pop(0)()
            self._later.start()

    def _to_complete(self, plane: Plane, made: Layer | None) -> list[Callable[[], None]]:
        return [] if made is None else self._session.layers.to_complete(plane, made)

    def _show_unsure(self, plane: Plane, parts: Sequence[LivePrediction]) -> None:
        if plane.layer in self._session.layers.images():
            self._turns[:0] = self._to_complete(plane, self._session.layers.show_unsure_parts(plane, parts))

    def _take(self, saved: LiveSaved) -> None:
        if saved.training is not self._training or saved.training.project != self._session.project:
            return
        self._taking = True
        try:
            path, before = saved.path, saved.training.before
            self._session.state.segmenter = before if path is None else self._session.engine.read_model(path)
        finally:
            self._taking = False

    def _say(self, text: str, figures: str = "") -> None:
        self.said.emit(text, figures)

    def _say_missing(self) -> None:
        """Say which paint there has to be before anything can be learned; with paint of two classes, that it is looked at."""
        painted = sum(bool(self._session.state.painted.get(info.id)) for info in self._session.state.classes)
        missing = ("Live: paint two classes to begin.", "Live: now paint a second class.", "Learning …")
        self._say(missing[min(painted, 2)])

    def _report(self, event: LiveRound) -> None:
        if event.loss_after is None and event.number == 0:
            self._say_missing()
            return
        if event.loss_after is None:
            self._say(f"Up to date · {event.seconds:.1f} s")
            return
        self.rounds.append(event)
        if event.fine and event.loss_after == event.loss_before:
            self._say("Up to date: learning for longer does not help", f"Round {event.number} · measured on paint kept back")
            return
        done = "Improved" if event.fine else "Updated"
        self._say(f"{done} in {event.seconds:.1f} s", f"Round {event.number} · loss {event.loss_after:.2f}")

    def _on_failed(self, error: Exception) -> None:
        self._session.fail(error)
        self._end()

    def _end(self) -> None:
        """Switch off because of an error, which is said already."""
        self.stop()
        self.ended.emit()

    def _on_ended(self) -> None:
        if self.on and self._session.state.idle and not self._worker.go_on() and self._fine_rounds < FINE_ROUNDS:
            self._idle.start()


def _timer(slot: Any, milliseconds: int = STROKE_MILLISECONDS) -> QTimer:
    timer = QTimer()
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(slot)
    return timer
