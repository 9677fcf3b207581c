"""What a training job must bring for the loop to train it: its data, its loss, and what it has to say on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..data.records import Skipped
from ..events import Event, Job, Notice
from ..model.mae import MaskedAutoencoder
from ..model.segmenter import Segmenter
from .batches import Arrays
from .provenance import listed


class Task(ABC):
    """What differs between training jobs.

    Attributes
    ----------
    job
        Name of the job.
    model
        The network, on its device.
    batch
        Tiles per step.
    result
        A context in which the network has the weights that the run will save; set by the loop.
    earlier
        What is known about this run from before it was resumed: what its model's history says, with ``curve`` and ``data`` from
        its checkpoint.
    unsaved
        Whether :meth:`finish` changed the model.
    """

    job: Job
    model: MaskedAutoencoder | Segmenter
    batch: int
    result: Callable[[], AbstractContextManager[None]] = nullcontext
    earlier: Mapping[str, Any] = MappingProxyType({})
    unsaved = False
    _told_lost = 0

    @abstractmethod
    def read(self, step: int) -> Arrays:
        """Return the arrays of a step, batch axis first; depends on the step alone and may run in another thread."""

    @abstractmethod
    def prepare(self, tensors: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw what is random about a whole batch on the device: its augmentation, its mask."""

    @abstractmethod
    def loss(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of (part of) a prepared batch and its parts before weighting; see :class:`TrainingStep`."""

    @abstractmethod
    def after_step(self, step: int, before: float, after: float) -> Iterator[Event]:
        """Yield what the job has to say after a step: previews, scores, notices.

        ``before`` and ``after`` are the used parts of the budget after the previous step and after this one.
        """

    def left_out(self, lost: Sequence[Skipped]) -> Iterator[Event]:
        """Tell of the images that were lost since this was asked last; ``lost`` is all of them."""
        new = lost[self._told_lost :]
        self._told_lost += len(new)  # not the length of what a thread may append to meanwhile
        if new:
            yield Notice(self.job, f"left out from now on: {listed(new)}")

    def finish(self, step: int) -> Iterator[Event]:
        """Do what is left to do when the last step is made, and yield what there is to say about it; nothing here."""
        yield from ()

    @property
    def unfinished(self) -> bool:
        """Whether the run that is resumed was stopped before :meth:`finish` had done its work."""
        return False

    @property
    def rough(self) -> bool:
        """Whether the model that the run saved before it was resumed is to stay until :meth:`finish` has done its work."""
        return False

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return JSON-able facts for the history of the model."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """Return JSON-able results for the summary."""
