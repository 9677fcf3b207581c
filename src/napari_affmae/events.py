"""What a running job says: frozen records that a generator yields.

Jobs (:func:`napari_affmae.pretrain`, :func:`napari_affmae.finetune` and the tile-wise segmentation) are generators of these.
They hold plain Python and numpy values only: neither torch tensors nor Qt objects, so that any consumer in any thread can
keep them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Job = Literal["pretrain", "finetune", "segment", "inspect", "live", "export", "suggest"]


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    job: Job


@dataclass(frozen=True)
class Started(Event):
    """The job has read its data and built its model; the first step comes next.

    Attributes
    ----------
    total_steps
        Steps the job will make, or None if a time budget decides.
    device
        For people, for example ``"cuda (NVIDIA H100)"`` or ``"cpu (2 threads)"``.
    kernels
        Which operator implementations run and why, one sentence.
    start_step
        First step to be made; larger than 0 after a resume.
    """

    total_steps: int | None
    device: str
    kernels: str
    parameters: int = 0
    start_step: int = 0


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know while the job goes on: a skipped file, a rescaled image, a smaller batch."""

    message: str


@dataclass(frozen=True)
class Progress(Event):
    """One training step, or one batch of tiles, is done.

    Attributes
    ----------
    step
        Steps done so far, counted from 1.
    fraction
        Part of the budget that is used, 0 to 1.
    loss
        The total training loss of this step (0 for jobs without one).
    losses
        Its parts before weighting, by name: ``res5``, ``res4``, ``res2`` and so on.
    lr
        Base learning rate of this step.
    images_per_second
        Tiles per second, smoothed over the last seconds.
    eta_seconds
        Expected seconds to the end, or None while unknown.
    elapsed_seconds
        Seconds of work, pauses not counted, earlier runs of a resumed job included.
    """

    step: int
    total_steps: int | None
    fraction: float
    loss: float
    losses: Mapping[str, float]
    lr: float
    images_per_second: float
    eta_seconds: float | None
    elapsed_seconds: float


@dataclass(frozen=True, eq=False)
class Preview(Event):
    """What the network sees and what it makes of it, for one fixed tile.

    Attributes
    ----------
    masked, reconstruction, target
        float32 arrays ``[H, W]`` or ``[H, W, 3]`` in 0..1. ``masked`` shows hidden patches grey; ``reconstruction`` keeps the
        visible patches and fills the hidden ones with predictions.
    """

    step: int
    masked: npt.NDArray[np.float32] = field(repr=False)
    reconstruction: npt.NDArray[np.float32] = field(repr=False)
    target: npt.NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Score(Event):
    """Held-out score of a finetuning run.

    Attributes
    ----------
    miou
        Mean intersection over union over the classes present, 0 to 1.
    iou
        The same per class name.
    pixels
        Number of held-out painted pixels that it was measured on.
    """

    step: int
    miou: float
    iou: Mapping[str, float]
    pixels: int


@dataclass(frozen=True)
class PartBegun(Event):
    """A job of few long parts turns to the next one, or is farther in one.

    Attributes
    ----------
    what
        What it does now, for people.
    fraction
        Part of the work that is done, 0 to 1.
    """

    what: str
    fraction: float


@dataclass(frozen=True)
class ImageBegun(Event):
    """A job of many images turns to the next one: number ``place``, from 1, of ``count``."""

    name: str
    place: int
    count: int


@dataclass(frozen=True)
class ImageWritten(Event):
    """The results for an image lie on disk, whole.

    Attributes
    ----------
    outputs
        The files, that of the labels first.
    pixels
        Area in pixels by class id.
    objects
        Number of instances, or None if they were not asked for.
    """

    name: str
    outputs: tuple[Path, ...]
    pixels: Mapping[int, int]
    objects: int | None = None


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint lies on disk, whole."""

    step: int
    path: Path


@dataclass(frozen=True)
class Done(Event):
    """The last event of a job that ended by itself or was stopped.

    Attributes
    ----------
    path
        What the job wrote, if anything: a model file, a folder of results, a package.
    stopped
        True if the job was asked to stop before its budget was used.
    result
        Whatever the job computed, for example a :class:`~napari_affmae.engine.segment.SegmentationResult`.
    summary
        Small JSON-able figures: final loss, steps, seconds, scores.
    """

    step: int
    path: Path | None
    stopped: bool = False
    result: Any = None
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveStep(Event):
    """Live training has made an optimizer step.

    Attributes
    ----------
    generation
        Number of the request that is worked on.
    step
        Steps of this round, counted from 1.
    loss
        The training loss of the step.
    fine
        Whether the whole network learns.
    """

    generation: int
    step: int
    loss: float
    fine: bool


@dataclass(frozen=True, eq=False)
class LivePrediction(Event):
    """Part of an image, as the network sees it now.

    Attributes
    ----------
    generation
        Number of the request.
    name
        The image.
    top, left
        Where the part begins, in pixels.
    labels
        uint8 ``[h, w]``, class ids.
    visible
        Whether what was asked for first is complete with this part; parts of the rest of the image follow.
    uncertainty
        float32 ``[h, w]``, 0 to 1, how unsure the network is; see :func:`~napari_affmae.engine.uncertainty.uncertainty`.
    """

    generation: int
    name: str
    top: int
    left: int
    labels: npt.NDArray[np.uint8]
    visible: bool
    uncertainty: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class LiveRound(Event):
    """A round has trained and predicted what is visible.

    Attributes
    ----------
    generation
        Number of the request.
    number
        Rounds of this session so far that trained; 0 where nothing is left of what they learned.
    steps
        Optimizer steps; 0 if nothing was new and the round only predicted.
    fine
        Whether the whole network learned.
    seconds
        From the request's start to the visible prediction.
    loss_before, loss_after
        Cross-entropy on the newest strokes (on a sample of all paint if nothing was added), before and after training. Of a
        finer round: on paint that was kept back, the same twice if what it learned did not help and was undone. None without
        training.
    """

    generation: int
    number: int
    steps: int
    fine: bool
    seconds: float
    loss_before: float | None
    loss_after: float | None
