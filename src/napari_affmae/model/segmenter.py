"""The segmenter: the same network with nothing hidden, queries at every patch, and classes instead of intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from ..config import ModelConfig
from ..errors import ConfigError
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
        maps = {
            name: unpatchify(values, self.config.patch_size, self.config.grid(height, width))[..., :height, :width]
            for name, values in self._predict(self.features(images).decoder_features).items()
        }
        return SegmenterOutput(logits=maps["res2"], aux={"res5": maps["res5"], "res4": maps["res4"]})
