"""Settings of models and jobs: frozen, validated when made, and the same through JSON and back.

The command line, the dock and the Python functions all fill in these objects, so that a run can be repeated from the file
that it writes. Sizes are in pixels unless a name says otherwise.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError

PresetName = Literal["tiny", "small", "base"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Merging = Literal["cluster", "l2norm"]
Selection = Literal["global", "local"]
MaskKind = Literal["perlin", "random"]
PositionCode = Literal["grid", "batch"]
OutputFormat = Literal["tiff", "ome-zarr"]
Views = Literal[1, 2, 4, 8]
Deform = Annotated[float, Field(ge=0, le=1)]
Focus = Annotated[float, Field(ge=0, le=5)]
Average = Annotated[float, Field(ge=0, lt=1)]

STAGES = 4
STAGE_NAMES = ("res2", "res3", "res4", "res5")
"""Names of the four encoder stages, shallow to deep, as the paper and its checkpoints write them."""

CPU_TILE, CARD_TILE = 256, 512
"""Side of training tiles in pixels, on a CPU and on a graphics card, where neither the settings nor a model say another one."""

PositiveInt = Annotated[int, Field(gt=0)]
FourSizes = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown names, and errors that are :class:`~napari_affmae.errors.ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError(_readable(type(self).__name__, error)) from error

    def to_json(self) -> str:
        """Return the settings as JSON text."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what :meth:`to_json` wrote; raise :class:`ConfigError` if it does not fit."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(_readable(cls.__name__, error)) from error

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed."""
        return type(self)(**{**dict(self), **changes})


def _readable(name: str, error: ValidationError) -> str:
    """Turn pydantic's report into one line per problem, in words."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        got = problem.get("input")
        shown = f" (got {got!r})" if where and not isinstance(got, dict) else ""
        lines.append(f"{where + ': ' if where else ''}{problem['msg'].removeprefix('Value error, ')}{shown}")
    return f"{name}: " + "; ".join(lines)


class ModelConfig(Settings):
    """Everything that decides the shape and the computation of a network.

    Attributes
    ----------
    patch_size
        Side of a patch in pixels, a power of two from 2 to 64.
    in_channels
        Number of image channels.
    embed_dims, depths, num_heads, neighbourhood
        Width, number of blocks, attention heads and attended tokens, one value per stage, shallow to deep.
    cluster_size
        Tokens per balanced cluster (``m`` in the paper).
    ds_rates
        Part of the tokens that survives the merge behind each stage, one value per stage; nothing merges behind the last.
    mlp_ratio
        Width of the hidden layer of a block's MLP over the width of the stage.
    merging
        ``"cluster"`` merges neighbourhoods by learned scores; ``"l2norm"`` keeps the tokens of largest norm.
    selection
        With ``"cluster"``: whether the tokens that survive are the best of the whole image, as in the paper, or those that are
        most above their neighbourhood's mean, so that no part of an image is emptied.
    decoder_dim, decoder_heads, decoder_ffn_dim
        Width, heads and hidden width of the decoder blocks; ``decoder_ffn_dim`` defaults to ``2 * decoder_dim``.
    mask_ratio
        Part of the patches that pretraining hides, 0 < r < 1.
    mask_kind
        ``"perlin"`` hides connected regions of several sizes, ``"random"`` single patches.
    position_code
        ``"grid"`` scales positions by the grid, so that a batch-mate never matters; ``"batch"`` scales by the largest position
        in the batch, as the paper's released model does.

    Raises
    ------
    ConfigError
        If a value is out of range, or widths are not divisible by their heads.
    """

    patch_size: PositiveInt = 8
    in_channels: PositiveInt = 1
    embed_dims: FourSizes = (96, 192, 384, 512)
    depths: FourSizes = (2, 3, 9, 2)
    num_heads: FourSizes = (3, 6, 12, 16)
    neighbourhood: FourSizes = (64, 64, 64, 64)
    cluster_size: PositiveInt = 8
    ds_rates: tuple[Rate, Rate, Rate, Rate] = (0.4, 0.4, 0.4, 0.4)
    mlp_ratio: Annotated[float, Field(gt=0)] = 2.0
    merging: Merging = "cluster"
    selection: Selection = "global"
    decoder_dim: PositiveInt = 384
    decoder_heads: PositiveInt = 6
    decoder_ffn_dim: PositiveInt = 0
    mask_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    mask_kind: MaskKind = "perlin"
    position_code: PositionCode = "grid"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("decoder_ffn_dim"):
            width = data.get("decoder_dim", cls.model_fields["decoder_dim"].default)
            if isinstance(width, int):
                data = {**data, "decoder_ffn_dim": 2 * width}
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        p = self.patch_size
        if not 2 <= p <= 64 or p & (p - 1):
            raise ValueError(f"patch_size must be a power of two from 2 to 64, got {p}; use 8 for most images")
        for stage, (width, heads) in enumerate(zip(self.embed_dims, self.num_heads, strict=True)):
            if width % heads:
                raise ValueError(
                    f"embed_dims[{stage}] = {width} is not divisible by num_heads[{stage}] = {heads}; "
                    "choose a width that is a multiple of its heads"
                )
        if self.embed_dims[0] % 2:
            raise ValueError(f"embed_dims[0] must be even, got {self.embed_dims[0]}: the patch embedding uses half of it")
        if self.decoder_dim % self.decoder_heads:
            raise ValueError(f"decoder_dim = {self.decoder_dim} is not divisible by decoder_heads = {self.decoder_heads}")
        if self.decoder_dim % 4:
            raise ValueError(f"decoder_dim must be a multiple of 4 for the sine position code, got {self.decoder_dim}")
        return self

    @classmethod
    def preset(cls, name: PresetName, in_channels: int = 1, **overrides: Any) -> ModelConfig:
        """Return a named configuration: ``"tiny"`` for CPUs, the paper's ``"small"`` and ``"base"`` for graphics cards.

        Raises
        ------
        ConfigError
            If the name is unknown or an override does not fit.
        """
        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], "in_channels": in_channels, **overrides})

    def is_preset(self, name: PresetName) -> bool:
        """Whether this is the network of a preset, whatever its channels and what else may be chosen with it."""
        return all(getattr(self, field) == value for field, value in PRESETS[name].items())

    @property
    def prediction_dim(self) -> int:
        """Length of one predicted patch: ``patch_size² · in_channels``, ordered row, column, channel."""
        return self.patch_size**2 * self.in_channels

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches per column and per row that cover an image of this size, padding included."""
        return math.ceil(height / self.patch_size), math.ceil(width / self.patch_size)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "embed_dims": (48, 96, 192, 256),
        "depths": (1, 2, 4, 1),
        "num_heads": (3, 6, 12, 16),
        "mlp_ratio": 2.0,
        "decoder_dim": 128,
        "decoder_heads": 4,
    },
    "small": {
        "embed_dims": (96, 192, 384, 512),
        "depths": (2, 3, 9, 2),
        "num_heads": (3, 6, 12, 16),
        "mlp_ratio": 2.0,
        "decoder_dim": 384,
        "decoder_heads": 6,
    },
    "base": {
        "embed_dims": (128, 256, 512, 768),
        "depths": (3, 4, 16, 2),
        "num_heads": (4, 8, 16, 24),
        "mlp_ratio": 3.0,
        "decoder_dim": 384,
        "decoder_heads": 6,
        "ds_rates": (0.5, 0.5, 0.5, 0.5),
    },
}
"""What each preset sets; everything else keeps the defaults of :class:`ModelConfig`. Sizes: paper, table of the models."""


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
        Side of the square crops in pixels, or None to choose by device; the run's own settings hold the number that was chosen.
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
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
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
        Side of the crops in pixels; None takes that of the pretrained model, or chooses by device if it says none.
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
        Side of the tiles that the network sees, in pixels; None takes that of the model, or chooses by device.
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
