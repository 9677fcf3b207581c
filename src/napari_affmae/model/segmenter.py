"""The segmenter: the same network with nothing hidden, queries at every patch, and classes instead of intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..errors import ConfigError
from ..model_config import ModelConfig
from .description import Description, context_of
from .encoder import Stage
from .filters import background_of, filter_responses
from .geometry import grid_positions
from .mae import MaskedAutoencoder
from .masking import unpatchify
from .network import Network
from .readout import Readout


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
    """A network that gives every pixel ``num_classes`` logits: those of its main head or, if it has one, of its readout.

    Heads are trained with the network, by the thousand steps. A :class:`~napari_affmae.model.readout.Readout` is fitted in a
    second to what a finished network describes; live training does so after every stroke.

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

    Attributes
    ----------
    readout
        Takes the place of the main head where it is not None.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        if num_classes < 2:
            raise ConfigError(f"a segmenter needs at least 2 classes, got {num_classes}: paint or name another one")
        super().__init__(config, config.patch_size**2 * num_classes)
        self.num_classes = num_classes
        self.readout: Readout | None = None

    @classmethod
    def from_pretrained(cls, mae: MaskedAutoencoder, num_classes: int) -> Self:
        """Build a segmenter that starts from a pretrained encoder and decoder; its heads are fresh, its card is the MAE's."""
        model = cls(mae.config, num_classes)
        weights = {name: value for name, value in mae.state_dict().items() if not name.startswith("heads.")}
        model.load_state_dict(weights, strict=False)
        model.card = mae.card
        return model.to(next(mae.parameters()).device, next(mae.parameters()).dtype)

    def forward(self, images: Tensor, background: Tensor | None = None) -> SegmenterOutput:
        """Segment normalised images ``[B, C, H, W]`` of any size.

        ``background`` is that of the whole images that these are tiles of, ``[B, C, 1, 1]`` or one for all; None where they
        are whole. It matters to a readout only.

        Raises
        ------
        DataError
            If the images are not ``[B, C, H, W]`` with the channels that the network was built for.
        """
        height, width = images.shape[-2:]
        if self.readout is None:
            return self.heads_output(images)
        padded, grid, stages, decoded = self._decoded(images)
        output = self._heads(decoded, grid)
        logits: Tensor = self.readout(self._description(padded, background, grid, stages, decoded, output.logits))
        return _cropped(SegmenterOutput(logits, output.aux), height, width)

    def heads_output(self, images: Tensor) -> SegmenterOutput:
        """Segment images as :meth:`forward` does, by the heads alone: what trains them, and the network below."""
        _, grid, _, decoded = self._decoded(images)
        return _cropped(self._heads(decoded, grid), *images.shape[-2:])

    def describe(self, images: Tensor, background: Tensor | None = None) -> Description:
        """Return what a readout reads classes from, of images as :meth:`forward` takes them, padded to whole patches."""
        padded, grid, stages, decoded = self._decoded(images)
        return self._description(padded, background, grid, stages, decoded, self._heads(decoded, grid).logits)

    def _decoded(self, images: Tensor) -> tuple[Tensor, tuple[int, int], list[Stage], list[Tensor]]:
        padded = self._padded(images)
        grid = self.config.grid(*images.shape[-2:])
        return padded, grid, *self._run(padded, grid, None, None)

    def _heads(self, decoded: list[Tensor], grid: tuple[int, int]) -> SegmenterOutput:
        maps = {name: unpatchify(values, self.config.patch_size, grid) for name, values in self._predict(decoded).items()}
        return SegmenterOutput(logits=maps["res2"], aux={"res5": maps["res5"], "res4": maps["res4"]})

    def _description(
        self,
        padded: Tensor,
        background: Tensor | None,
        grid: tuple[int, int],
        stages: list[Stage],
        decoded: list[Tensor],
        logits: Tensor,
    ) -> Description:
        with torch.autocast(padded.device.type, enabled=False):
            places = self.places(grid, padded).expand(padded.shape[0], -1, 2)
            filters = filter_responses(padded - (background_of(padded) if background is None else background))
            return Description(filters, context_of(stages, decoded, places, grid), logits.float())

    @staticmethod
    def places(grid: tuple[int, int], like: Tensor) -> Tensor:
        """Return the places of all patches of a grid, ``[h·w, 2]``, on the device of ``like``."""
        return grid_positions(*grid, like.device, torch.float64 if like.dtype == torch.float64 else torch.float32)


def _cropped(output: SegmenterOutput, height: int, width: int) -> SegmenterOutput:
    """Take the padding off."""
    maps = {name: logits[..., :height, :width] for name, logits in output.aux.items()}
    return SegmenterOutput(output.logits[..., :height, :width], maps)
