"""What decides the shape and the computation of a network, and the presets."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .errors import ConfigError
from .settings import PositiveInt, Settings

PresetName = Literal["tiny", "small", "base"]
Merging = Literal["cluster", "l2norm"]
Selection = Literal["global", "local"]
MaskKind = Literal["perlin", "random"]
PositionCode = Literal["grid", "batch"]

STAGES = 4
STAGE_NAMES = ("stage 1", "stage 2", "stage 3", "stage 4")
"""Names of the four encoder stages, shallow to deep, for people: in layers, files and the dock. The paper counts from res2."""

FourSizes = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]


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
