"""The worker of live mode: a thread that answers what the window asks for, only ever the newest, and then saves the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo
from ..control import JobControl, LiveControl
from ..data.records import ImageCollection, ImageRecord
from ..model_places import MODEL_FILE
from .job_runner import JobRunner
from .project import new_run

if TYPE_CHECKING:
    from .session import Session
    from .state import ModelOnDisk


@dataclass(eq=False)
class Training:
    """One model in the making.

    Attributes
    ----------
    model
        What it starts from.
    project
        What it is for.
    before
        The segmenter that was in use.
    live, run
        Its session, and the folder that it is saved in, once they are there.
    """

    model: Path | str
    project: Path
    before: ModelOnDisk | None = None
    live: Any = None
    run: Path | None = None


@dataclass(frozen=True, eq=False)
class Wanted:
    """What the worker is asked to do, with copies of all paint on images that are open and what reads it of others."""

    training: Training
    generation: int
    paint: list[tuple[ImageRecord, npt.NDArray[np.uint8]]]
    image: ImageRecord
    visible: tuple[int, int, int, int]
    classes: tuple[ClassInfo, ...]
    closed: list[tuple[ImageRecord, Any]]
    asked: float
    fine: bool = False


@dataclass(frozen=True)
class LiveSaved:
    """The live model lies on disk; without a path, the one that does is no more: all that it learned was undone."""

    training: Training
    path: Path | None


class LiveWorker:
    """Takes requests on the main thread and answers them in a thread of its own; a request replaces the one before it.

    Attributes
    ----------
    runner
        Runs the thread; its signals bring what comes back.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.runner = JobRunner()
        self._lock = Lock()
        self._pending: Wanted | None = None
        self._control: LiveControl | None = None

    def ask(self, wanted: Wanted) -> None:
        """Have this answered next, and whatever is older dropped."""
        with self._lock:
            self._pending = wanted
        self._supersede(wanted.generation)
        if not self.runner.running:
            self._begin(wanted.generation)

    def drop(self, generation: int) -> None:
        """Ask for nothing any more; answers older than this generation are stale."""
        with self._lock:
            self._pending = None
        self._supersede(generation)

    def go_on(self) -> bool:
        """Begin again if something was asked for while the thread was ending; return whether there was."""
        wanted = self._pending
        if wanted is None:
            return False
        self._begin(wanted.generation)
        return True

    def _supersede(self, generation: int) -> None:
        if self._control is not None:
            self._control.supersede(generation)

    def _begin(self, generation: int) -> None:
        self._control = LiveControl(generation)
        self.runner.start(self._work, "AFFMAE live training", self._control)

    def _work(self, control: JobControl) -> Iterator[object]:
        """Answer requests until there is none, then save what was learned; runs in the thread."""
        asked: set[Training] = set()
        try:
            while not control.stop_requested:
                with self._lock:
                    wanted, self._pending = self._pending, None
                if wanted is None:
                    break
                training = wanted.training
                if training.live is None:
                    if len(wanted.classes) < 2:
                        continue  # there is no network of a single class
                    images = ImageCollection((wanted.image,))
                    training.live = self._session.engine.open_live(
                        training.model, wanted.classes, images, self._session.settings.device
                    )
                asked.add(training)
                if wanted.classes != training.live.classes:
                    yield from _saved([training])  # the session forgets what it has learned
                yield from training.live.answer(wanted, control)
        except Exception:
            # What went wrong now takes nothing away from what the rounds before have taught.
            yield from _saved(asked)
            raise
        yield from _saved(asked)


def _saved(asked: Iterable[Training]) -> Iterator[LiveSaved]:
    for training in asked:
        if training.live.unsaved:
            training.run = training.run or new_run(training.project, "finetune")
            yield LiveSaved(training, training.live.save(training.run / MODEL_FILE))
        elif training.live.undone and training.run is not None:
            yield LiveSaved(training, None)
