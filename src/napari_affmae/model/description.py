"""What a network says about every pixel before any class is decided: filter responses, token features, its heads' opinion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from affmae_kernels import nearest
from torch import Tensor

from .encoder import Stage

_NEIGHBOURS = 4
_SHARPNESS = 2.0
"""A patch takes the features of its nearest tokens, weighted by ``softmax(-2 · distance in patches)``."""


@dataclass(frozen=True)
class Description:
    """Images as numbers to read classes from.

    Attributes
    ----------
    filters
        float32 ``[B, F, H, W]``, see :func:`~napari_affmae.model.filters.filter_responses`; of the image less its
        background.
    context
        float32 ``[B, h, w, D]``: features of all encoder stages and decoder blocks at every patch, shallow to deep.
    logits
        float32 ``[B, K, H, W]`` of the main head.
    """

    filters: Tensor
    context: Tensor
    logits: Tensor

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.filters.nbytes + self.context.nbytes + self.logits.nbytes

    def clone(self) -> Description:
        """Return a copy."""
        return Description(self.filters.clone(), self.context.clone(), self.logits.clone())

    def at(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return filters ``[n, F]``, context ``[n, D]`` and logits ``[n, K]`` at pixels of the first image.

        Context is interpolated between the centres of patches, as it is for whole maps.
        """
        height, width = self.context.shape[1:3]
        cell = self.filters.shape[-1] // width
        top, bottom, down = _between(rows, cell, height)
        left, right, across = _between(columns, cell, width)
        table = self.context[0]
        upper = table[top, left] * (1 - across) + table[top, right] * across
        lower = table[bottom, left] * (1 - across) + table[bottom, right] * across
        return self.filters[0, :, rows, columns].T, upper * (1 - down) + lower * down, self.logits[0, :, rows, columns].T


def context_of(stages: Sequence[Stage], decoded: Sequence[Tensor], places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put the features of all stages ``[B, n, D_l]`` and of all decoder blocks ``[B, h·w, D]`` on the grid: ``[B, h, w, ΣD]``.

    ``places`` are those of all patches, ``[B, h·w, 2]``.
    """
    parts = [_on_grid(stage, places, grid) for stage in stages]
    parts += [features.float() for features in decoded]
    joined = torch.cat(parts, dim=-1)
    return joined.view(joined.shape[0], *grid, joined.shape[-1])


def _on_grid(stage: Stage, places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return features ``[B, h·w, D]`` of every patch, mixed from the tokens nearest to it."""
    sites = stage.positions_xy
    ids = nearest(places, sites, _NEIGHBOURS, grid)
    batch, patches, count = ids.shape
    flat = ids.view(batch, -1, 1)
    found = sites.gather(1, flat.expand(-1, -1, 2)).view(batch, patches, count, 2)
    weights = (-_SHARPNESS * (found - places[:, :, None]).norm(dim=-1)).softmax(dim=-1).float()
    tokens = stage.tokens.float()
    dim = tokens.shape[-1]
    near = tokens.gather(1, flat.expand(-1, -1, dim)).view(batch, patches, count, dim)
    mixed: Tensor = (near * weights[..., None]).sum(dim=2)
    return mixed


def _between(pixels: Tensor, cell: int, patches: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the patches before and behind pixels, and how far ``[n, 1]`` the pixels are on the way from one to the other."""
    place = ((pixels + 0.5) / cell - 0.5).clamp_min(0)
    first = place.floor().long().clamp_max(patches - 1)
    return first, (first + 1).clamp_max(patches - 1), (place - first).clamp(0, 1)[:, None]
