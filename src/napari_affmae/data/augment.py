"""Augmentation of a batch: flips, quarter turns, smooth deformation and intensity jitter, each drawn per sample."""

from __future__ import annotations

from typing import overload

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import torch
from torch import Tensor

from .warp import warp


@overload
def augment(images: Tensor, labels: None = None, *, jitter: float, generator: torch.Generator) -> tuple[Tensor, None]: ...
@overload
def augment(
    images: Tensor, labels: Tensor, *, jitter: float, generator: torch.Generator, deform: float = 0.0
) -> tuple[Tensor, Tensor]: ...
def augment(
    images: Tensor, labels: Tensor | None = None, *, jitter: float, generator: torch.Generator, deform: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """Flip, turn, deform and jitter every sample of a batch by its own draw.

    Parameters
    ----------
    images
        Normalised, ``[B, C, T, T]``.
    labels
        ``[B, T, T]`` of any type, moved exactly as the images are, or None.
    jitter
        Contrast in ``1 ± jitter``, brightness in ``± jitter`` standard deviations, the same for all channels of a sample.
    generator
        Source of all randomness; it may live on another device than the images.
    deform
        Strength of :func:`~napari_affmae.data.warp.warp`, 0 to 1; only images with labels are deformed.
    """
    codes = torch.randint(0, 8, (images.shape[0],), generator=generator, device=generator.device)
    images = turn(images, codes.to(images.device))
    labels = None if labels is None else turn(labels, codes.to(labels.device))
    if labels is not None and deform > 0:
        images, labels = warp(images, labels, deform, generator)
    return jitter_intensity(images, jitter, generator), labels


def turn(batch: Tensor, codes: Tensor) -> Tensor:
    """Apply one of the eight symmetries of the square to each sample.

    Bit 1 of a code mirrors the columns, bit 2 the rows, and bit 4 then swaps rows and columns; code 0 changes nothing.

    Parameters
    ----------
    batch
        ``[B, ..., T, T]``.
    codes
        Integers ``[B]`` in 0..7, on the same device.
    """
    shape = (-1, *(1 for _ in batch.shape[1:]))
    for bit, mirrored_axes in ((1, (-1,)), (2, (-2,))):
        batch = torch.where((codes & bit).bool().view(shape), batch.flip(mirrored_axes), batch)
    return torch.where((codes & 4).bool().view(shape), batch.transpose(-1, -2), batch)


def jitter_intensity(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Stretch each sample's contrast by ``1 ± strength`` and shift it by ``± strength``, jointly over channels."""
    if strength == 0:
        return images
    draws = torch.rand(2, images.shape[0], 1, 1, 1, generator=generator, device=generator.device).to(images.device)
    contrast, brightness = (draws * 2 - 1) * strength
    jittered: Tensor = images * (1 + contrast) + brightness
    return jittered
