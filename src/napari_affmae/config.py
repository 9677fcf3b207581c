"""Settings of jobs.

The command line, the dock and the Python functions all fill in these objects, so that a run can be repeated from the file
that it writes. Sizes are in pixels unless a name says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .model_config import ModelConfig
from .settings import PositiveInt, Settings

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
OutputFormat = Literal["tiff", "ome-zarr"]
Views = Literal[1, 2, 4, 8]
Deform = Annotated[float, Field(ge=0, le=1)]
Focus = Annotated[float, Field(ge=0, le=5)]
Average = Annotated[float, Field(ge=0, lt=1)]

CPU_TILE, CARD_TILE = 256, 512
"""Side of training tiles in pixels, on a CPU and on a graphics card, where neither the settings nor a model say another one."""


class Budget(Settings):
    """How long a job trains: exactly one of steps, epochs or minutes. The learning-rate schedule fits whichever is given.

    Attributes
    ----------
    steps
        Optimizer steps.
    epochs
        Passes over as many tiles as cover every image once.
    minutes
        Minutes of work; pauses do not count.
    """

    steps: PositiveInt | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, epochs or minutes, got {', '.join(given) or 'none'}")
        return self


class PretrainConfig(Settings):
    """Settings of a pretraining run.

    Attributes
    ----------
    model
        The network. Its ``in_channels`` must match the images.
    budget
        When to end.
    tile
        Side of the square crops in pixels, or None to choose by device and images; the run's own settings hold the number that
        was chosen.
        Smaller images are taken whole and padded by reflection; where all are less than half of it, it is refused.
    batch
        Crops per step, or None to choose by device and preset.
    learning_rate, betas, weight_decay, warmup, clip
        AdamW at this batch, no scaling rule; warm-up as a part of the budget; gradients are clipped to this norm.
    jitter
        Strength of the intensity jitter: contrast in ``1 ± jitter``, brightness in ``± jitter`` standard deviations.
    seed
        Everything random follows from it and from the step number, so that a resumed run repeats the uninterrupted one.
    device
        ``"auto"`` takes CUDA, then MPS, then the CPU.
    preview_seconds, checkpoint_seconds
        Least time between two previews, and between two checkpoints.
    """

    model: ModelConfig
    budget: Budget = Budget(minutes=10)
    tile: Annotated[int, Field(ge=16)] | None = None
    batch: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    clip: Annotated[float, Field(gt=0)] = 5.0
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"
    preview_seconds: Annotated[float, Field(gt=0)] = 3.0
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0


class Refinement(Settings):
    """What is done to a segmentation before it is written or shown; by default nothing.

    Attributes
    ----------
    specks
        Objects of fewer pixels than this are given to what surrounds them; 0 keeps all.
    holes
        Holes of at most so many pixels inside an object are filled; 0 keeps all.
    instances
        Whether objects are numbered, measured and written.
    split
        How deep the neck between two touching objects must be, in pixels, for them to count as two; 0 never splits.
    background
        Name of the class that is no object; None takes the one called background, or the first.
    """

    specks: Annotated[int, Field(ge=0)] = 0
    holes: Annotated[int, Field(ge=0)] = 0
    instances: bool = False
    split: Annotated[float, Field(ge=0)] = 0.0
    background: str | None = None

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return bool(self.specks or self.holes or self.instances)


class ApplyConfig(Settings):
    """Settings for segmenting many images into files.

    Attributes
    ----------
    format
        ``"tiff"``: ids; ``"ome-zarr"``: image, ids and class names in one.
    probabilities
        Whether the probability of each class is written, too.
    tile, overlap, batch, device, views
        As in :func:`~napari_affmae.engine.segment.segment_events`.
    rescale
        Whether images are scaled to the model's pixel size if both are known.
    refinement
        What is done to every segmentation before it is written.
    """

    format: OutputFormat = "tiff"
    probabilities: bool = False
    tile: Annotated[int, Field(ge=16)] | None = None
    overlap: Annotated[int, Field(ge=0)] | None = None
    batch: PositiveInt | None = None
    device: DeviceName = "auto"
    views: Views = 1
    rescale: bool = True
    refinement: Refinement = Refinement()


class FinetuneConfig(Settings):
    """Settings of a finetuning run.

    Attributes
    ----------
    budget
        When to end.
    tile
        Side of the crops in pixels; None takes that of the pretrained model, or chooses by device and images if it says none.
    batch
        Crops per step, or None to choose by device and preset.
    learning_rate, layer_decay, weight_decay, warmup, clip
        AdamW; the learning rate falls by ``layer_decay`` from each stage to the one below it. From scratch nothing decays.
    jitter
        As in :class:`PretrainConfig`.
    deform
        Strength of random turns, stretching and elastic waves, see :mod:`~napari_affmae.data.warp`; 0 for none.
    focus
        How much less a pixel counts that is known already, see :func:`~napari_affmae.engine.losses.masked_cross_entropy`.
    average
        Part that each step keeps of the moving average of the weights, which is what is scored and saved; 0 takes the last
        weights as they are.
    held_out
        Part of the painted area kept back for the score, when every class can spare it; 0 trains on everything.
    seed, device, checkpoint_seconds
        As in :class:`PretrainConfig`.
    """

    budget: Budget = Budget(steps=400)
    tile: Annotated[int, Field(ge=16)] | None = None
    batch: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 5.0
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.15
    deform: Deform = 0.5
    focus: Focus = 0.0
    average: Average = 0.0
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0


class LiveConfig(Settings):
    """Settings of live training: quick rounds that follow every stroke, and finer ones while nobody paints.

    Attributes
    ----------
    tile
        Side of the tiles that the network sees, in pixels; None takes that of the model, or chooses by device: 256 on a CPU,
        512 on a graphics card.
    most_pixels
        Painted pixels that a quick round fits its readout to, evenly over the classes; more paint is thinned out.
    learning_rate, layer_decay, weight_decay, clip, jitter
        Of finer rounds: AdamW and augmentation, as in :class:`FinetuneConfig`. The optimizer lives as long as the session.
    fine_seconds, fine_steps
        Least of both ends a finer round.
    held_out
        Part of the paint that a finer round does without, to decide by it whether what was learned helps.
    cache_bytes
        Memory for what the network describes of tiles.
    seed, device
        As in :class:`PretrainConfig`.
    """

    tile: Annotated[int, Field(ge=16)] | None = None
    most_pixels: Annotated[int, Field(ge=100)] = 6000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    clip: Annotated[float, Field(gt=0)] = 5.0
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.15
    fine_seconds: Annotated[float, Field(gt=0)] = 20.0
    fine_steps: PositiveInt = 100
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    cache_bytes: Annotated[int, Field(ge=0)] = 1 << 29
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"


class ExportConfig(Settings):
    """What goes into an exported package besides the network.

    Attributes
    ----------
    name, description
        For people; None makes them from the class names.
    authors
        Who made the model: ``"Name"`` or ``"Name; affiliation"``.
    licence
        SPDX identifier of the licence of the weights.
    cite
        What to cite besides the method, each with a DOI or an address in it.
    tile
        Side of the tiles that the package takes, in pixels; None takes that of the training.
    check
        Whether the package is run by ``bioimageio.core`` before it is put into place.
    """

    name: str | None = None
    description: str | None = None
    authors: tuple[str, ...] = ()
    licence: str = "CC-BY-4.0"
    cite: tuple[str, ...] = ()
    tile: Annotated[int, Field(ge=16)] | None = None
    check: bool = True
