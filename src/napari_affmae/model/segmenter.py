"""The segmenter: the same network with nothing hidden, queries at every patch, and classes instead of intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..config import ModelConfig
from ..errors import ConfigError
from .encoder import Stage
from .geometry import grid_positions
from .mae import MaskedAutoencoder
from .masking import unpatchify
from .network import Network


@dataclass(frozen=True)
class SegmenterOutput:
    """What :class:`Segmenter` returns.

    Attributes
    ----------
    logits
        ``[B, K, H, W]`` of the size of the images.
    aux
        The logits of the two auxiliary heads, ``res5`` and ``res4``, of the same shape.
    """

    logits: Tensor
    aux: dict[str, Tensor]


class Segmenter(Network):
    """A network that gives every pixel ``num_classes`` logits.

    Parameters
    ----------
    config
        Sizes and choices.
    num_classes
        K, at least 2.

    Raises
    ------
    ConfigError
        If there are fewer than two classes.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        if num_classes < 2:
            raise ConfigError(f"a segmenter needs at least 2 classes, got {num_classes}: paint or name another one")
        super().__init__(config, config.patch_size**2 * num_classes)
        self.num_classes = num_classes

    @classmethod
    def from_pretrained(cls, mae: MaskedAutoencoder, num_classes: int) -> Self:
        """Build a segmenter that starts from a pretrained encoder and decoder; its heads are fresh, its card is the MAE's."""
        model = cls(mae.config, num_classes)
        weights = {name: value for name, value in mae.state_dict().items() if not name.startswith("heads.")}
        model.load_state_dict(weights, strict=False)
        model.card = mae.card
        return model.to(next(mae.parameters()).device, next(mae.parameters()).dtype)

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Segment normalised images ``[B, C, H, W]`` of any size.

        Raises
        ------
        DataError
            If the images are not ``[B, C, H, W]`` with the channels that the network was built for.
        """
        height, width = images.shape[-2:]
        output = self.decode(self.encode(images), self.config.grid(height, width))
        maps = {name: logits[..., :height, :width] for name, logits in output.aux.items()}
        return SegmenterOutput(output.logits[..., :height, :width], maps)

    def encode(self, images: Tensor) -> list[Stage]:
        """Return the four encoder stages of normalised images ``[B, C, H, W]``, nothing hidden.

        Raises
        ------
        DataError
            As :meth:`forward`.
        """
        padded = self._padded(images)
        grid = self.config.grid(*images.shape[-2:])
        places = self.places(grid, padded).expand(images.shape[0], -1, 2)
        stages: list[Stage] = self.encoder(self.patch_embedding(padded, None), places, grid)
        return stages

    def decode(
        self, stages: list[Stage], grid: tuple[int, int], window: tuple[Tensor, tuple[int, int]] | None = None
    ) -> SegmenterOutput:
        """Segment what was encoded, in whole patches.

        Parameters
        ----------
        stages
            What :meth:`encode` returned.
        grid
            ``(h, w)`` patches of the images that were encoded.
        window
            The part to decode: the places ``[B, q, 2]`` of its patches in raster order, and how many rows and columns of
            patches it has. None decodes everything. Queries see each other, so that a window differs a little from the same
            part of the whole within some patches of its edges.
        """
        places, shape = window or (self.places(grid, stages[0].tokens).expand(stages[0].tokens.shape[0], -1, 2), grid)
        decoded = self._predict(self.decoder(stages, places, grid))
        maps = {name: unpatchify(values, self.config.patch_size, shape) for name, values in decoded.items()}
        return SegmenterOutput(logits=maps["res2"], aux={"res5": maps["res5"], "res4": maps["res4"]})

    @staticmethod
    def places(grid: tuple[int, int], like: Tensor) -> Tensor:
        """Return the places of all patches of a grid, ``[h·w, 2]``, on the device of ``like``."""
        return grid_positions(*grid, like.device, torch.float64 if like.dtype == torch.float64 else torch.float32)
