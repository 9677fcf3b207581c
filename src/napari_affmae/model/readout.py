"""The readout: classes of pixels from what the network describes, small enough to be fitted anew after every stroke.

Two committees look at a pixel, one of trees at filter responses (where exactly?), one of small networks at the features of the
network (in what surroundings?), and each multiplies the probabilities of the other. Every committee has several members,
which are averaged. Networks are fitted to different parts of the paint: a stroke is hundreds of pixels but a handful of
patches, which one network that sees everything would learn by heart. Trees see all of it, and differ by what they ask.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..model_config import ModelConfig
from .filters import smoothed
from .trees import Trees

if TYPE_CHECKING:
    from .description import Description

MEMBERS = 4
HIDDEN = 32
COMPONENTS = 48
"""Directions of the network's features that are looked at: those in which they vary most."""

CONTEXT_SHARE = 0.15
"""Exponent of the network's opinion. Sharp borders are the filters' business, and a patch knows nothing of them."""

_SMOOTHING = 1.0
"""Probabilities are smoothed by a Gaussian of so many pixels: single pixels are noise."""

_LEAST = 1e-12
_NEVER = -30.0


class Committee(nn.Module):
    """Several small networks ``D → 32 → K`` that see the same and are averaged."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight1 = nn.Parameter(torch.zeros(MEMBERS, inputs, HIDDEN), requires_grad=False)
        self.bias1 = nn.Parameter(torch.zeros(MEMBERS, 1, HIDDEN), requires_grad=False)
        self.weight2 = nn.Parameter(torch.zeros(MEMBERS, HIDDEN, classes), requires_grad=False)
        self.bias2 = nn.Parameter(torch.zeros(MEMBERS, 1, classes), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits ``[M, n, K]`` of ``[n, D]``."""
        hidden: Tensor = (rows @ self.weight1 + self.bias1).relu()
        return hidden @ self.weight2 + self.bias2

    def map(self, member: int, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Return a member's logits ``[B, K, H, W]`` of coarse maps ``[B, D, h, w]``.

        Enlarging the hidden layer's input is the same as enlarging the maps, and cheaper.
        """
        hidden = functional.conv2d(maps, self.weight1[member].T[:, :, None, None], self.bias1[member, 0])
        if hidden.shape[-2:] != size:
            hidden = functional.interpolate(hidden, size, mode="bilinear", align_corners=False)
        return functional.conv2d(hidden.relu_(), self.weight2[member].T[:, :, None, None], self.bias2[member, 0])


class Readout(nn.Module):
    """Classes of pixels from a :class:`~napari_affmae.model.description.Description`.

    Parameters
    ----------
    config
        Of the network.
    num_classes
        K.

    Attributes
    ----------
    filters, context
        The committees.
    present
        float32 ``[K]``: 1 for classes that it was fitted to; the others are left to the heads.
    heads_share
        Exponent of the heads' opinion; 0 if they were never trained.
    log_prior
        ``[K]``, added at the end: fitting evens the classes out, this takes part of it back.
    """

    context_mean: Tensor
    basis: Tensor
    present: Tensor
    heads_share: Tensor
    log_prior: Tensor

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        features = sum(config.embed_dims) + len(config.embed_dims) * config.decoder_dim
        self.filters = Trees(MEMBERS, num_classes)
        self.context = Committee(COMPONENTS, num_classes)
        self.register_buffer("context_mean", torch.zeros(features))
        self.register_buffer("basis", torch.zeros(features, COMPONENTS))
        self.register_buffer("present", torch.ones(num_classes))
        self.register_buffer("heads_share", torch.zeros(()))
        self.register_buffer("log_prior", torch.zeros(num_classes))

    def forward(self, description: Description) -> Tensor:
        """Return logits ``[B, K, H, W]``: log-probabilities up to a constant."""
        maps = description.filters
        size = maps.shape[-2], maps.shape[-1]
        with torch.autocast(maps.device.type, enabled=False):
            features = self.components(description.context).permute(0, 3, 1, 2)
            heads = self.heads_share * description.logits.log_softmax(dim=1)
            mean = torch.zeros_like(heads)
            for member in range(MEMBERS):
                opinions = self.filters.map(member, maps), self.context.map(member, features, size)
                mean += self._joined(*opinions, heads, dim=1)
            mean = smoothed(mean / MEMBERS, _SMOOTHING)
            return mean.clamp_min(_LEAST).log() + self.log_prior[:, None, None]

    def members(self, filters: Tensor, context: Tensor, logits: Tensor) -> Tensor:
        """Return each member's probabilities ``[M, n, K]`` of single pixels, as ``Description.at`` gives them; not smoothed."""
        heads = self.heads_share * logits.log_softmax(dim=-1)
        return self._joined(self.filters(filters), self.context(self.components(context)), heads, dim=-1)

    def components(self, context: Tensor) -> Tensor:
        """Return the directions that are looked at, ``[..., COMPONENTS]`` of ``[..., D]``."""
        return (context - self.context_mean) @ self.basis

    def _joined(self, filters: Tensor, context: Tensor, heads: Tensor, dim: int) -> Tensor:
        shape = [1] * filters.dim()
        shape[dim] = -1
        present = self.present.view(shape) > 0
        joined = self._opinion(filters, present, dim) + CONTEXT_SHARE * self._opinion(context, present, dim) + heads
        # Nobody has an opinion about classes that were not painted, unless the heads have.
        joined = torch.where(present | (self.heads_share > 0), joined, _NEVER)
        return joined.softmax(dim=dim)

    @staticmethod
    def _opinion(logits: Tensor, present: Tensor, dim: int) -> Tensor:
        """Return log-probabilities of the classes that were fitted, over a blind guess; 0 for the others."""
        known = torch.where(present, logits, -math.inf).log_softmax(dim=dim) + math.log(logits.shape[dim])
        return torch.where(present, known, 0.0)
