"""Smooth deformation of a batch: small turns, stretching and elastic waves, images and labels alike."""

from __future__ import annotations

import math

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import torch
from torch import Tensor
from torch.nn import functional

ANGLE = math.pi / 4
"""Largest turn at strength 1; quarter turns and mirror images, which other augmentation draws, make it any turn."""

STRETCH = 1.25
"""Largest factor along an axis at strength 1; its inverse is the smallest."""

WAVES = 4.0
"""Standard deviation of the elastic displacement in pixels at strength 1."""

SPACING = 32
"""Pixels between the points that elastic displacements are drawn at."""

WARPED = 0.5
"""Part of the samples that are warped. The others stay sharp, as images are that will be segmented: resampling softens."""


def warp(images: Tensor, labels: Tensor, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Deform every second sample, on average, by its own draw; what comes from outside the tile is its mirror image.

    Parameters
    ----------
    images
        ``[B, C, T, T]``; interpolated.
    labels
        Integers ``[B, T, T]``; each pixel takes the nearest.
    strength
        0 to 1: turns up to 45° times this, stretching of each axis up to a quarter, elastic waves of 4 pixels.
    generator
        Source of all randomness; it may live on another device than the images.
    """
    side = images.shape[-1]
    places = places_of(len(images), side, strength, generator).to(images.device)
    mode = "bilinear" if images.device.type == "mps" else "bicubic"  # torch has no other there
    moved = functional.grid_sample(images, 2 * places / (side - 1) - 1, mode, "border", align_corners=True)
    column, row = places.round().long().unbind(-1)
    taken = labels.flatten(1).gather(1, (row * side + column).flatten(1)).view_as(labels)
    return moved, taken


def places_of(count: int, side: int, strength: float, generator: torch.Generator) -> Tensor:
    """Return where each pixel comes from: ``(x, y)`` in 0..side - 1, ``[B, side, side, 2]``, on the generator's device."""
    device = generator.device
    turn, stretch_x, stretch_y, chance = torch.rand(4, count, 1, 1, generator=generator, device=device)
    points = side // SPACING + 4
    waves = torch.randn(count, 2, points, points, generator=generator, device=device)
    along = torch.arange(side, device=device, dtype=torch.float32)
    row, column = torch.meshgrid(along, along, indexing="ij")
    middle = (side - 1) / 2
    angle = (2 * turn - 1) * strength * ANGLE
    x = (column - middle) * STRETCH ** ((2 * stretch_x - 1) * strength)
    y = (row - middle) * STRETCH ** ((2 * stretch_y - 1) * strength)
    moved = torch.stack((x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()), dim=-1) + middle
    smooth = functional.interpolate(waves, size=(side, side), mode="bicubic", align_corners=True)
    moved = moved + strength * WAVES * smooth.movedim(1, -1)
    still = torch.stack((column, row), dim=-1)
    return torch.where((chance < WARPED).unsqueeze(-1), _mirrored(moved, side), still)


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Fold places outside 0..side - 1 back inside."""
    last = side - 1
    return last - (places.remainder(2 * last) - last).abs()
