"""Responses of classical image filters: what a pixel and its surroundings look like, at the resolution of pixels.

Tokens stand for patches; these tell the pixels of a patch apart. They are what random forests on filter features use
(Gaussian scale space, gradient magnitude, eigenvalues of the Hessian). Nothing here is learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Standard deviations of the Gaussians in pixels."""

RESPONSES = 4 * len(SCALES)
"""Numbers per pixel and channel."""

_REACH = 4.0

DARK = 0.25
"""Part of an image that is darker than its background."""

_SKIPPED = 4


def filter_responses(images: Tensor) -> Tensor:
    """Return ``[B, C · RESPONSES, H, W]`` of images ``[B, C, H, W]`` of any size, reflected at their borders.

    Per channel and scale: the smoothed intensity, the length of its gradient, and the two eigenvalues of its Hessian, both
    times the scale (squared for the Hessian) so that no scale fades.
    """
    found = []
    for sigma in SCALES:
        smooth = smoothed(images, sigma)
        down, across = _slope(smooth, -2), _slope(smooth, -1)
        rows, columns, mixed = _slope(down, -2), _slope(across, -1), _slope(down, -1)
        middle, half = (rows + columns) / 2, (rows - columns) / 2
        spread = (half.square() + mixed.square()).sqrt()
        edges = (down.square() + across.square()).sqrt()
        found += [smooth, sigma * edges, sigma**2 * (middle + spread), sigma**2 * (middle - spread)]
    return torch.cat(found, dim=1)


def background_of(images: Tensor) -> Tensor:
    """Return what a quarter of each image ``[B, C, H, W]`` is darker than, ``[B, C, 1, 1]``, from every fourth row and column.

    How bright an empty place is depends on camera and staining. Thresholds above it carry over to other images, where one
    between dim nuclei and the dark around them could lie in the dark.
    """
    values = images[..., ::_SKIPPED, ::_SKIPPED].flatten(2).sort(dim=-1).values
    return values[..., int(DARK * values.shape[-1]), None, None]


def smoothed(images: Tensor, sigma: float) -> Tensor:
    """Smooth images ``[..., H, W]`` by a Gaussian of ``sigma`` pixels."""
    down = _gaussian(images.shape[-2], sigma, images.device, images.dtype)
    across = _gaussian(images.shape[-1], sigma, images.device, images.dtype)
    return down @ images @ across.T


def _gaussian(size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the Gaussian along an axis as a matrix ``[size, size]``, the image repeated in the mirror beyond its ends.

    A product with a small dense matrix is faster than a long convolution, and an axis may be shorter than the Gaussian. It is
    made anew each time, on the device: a kept one would belong to the inference mode or the recorded graph that made it first.
    """
    reach = math.ceil(_REACH * sigma)
    offsets = torch.arange(-reach, reach + 1, device=device)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    places = (torch.arange(size, device=device)[:, None] + offsets) % (2 * size)
    places = torch.where(places < size, places, 2 * size - 1 - places)
    matrix = torch.zeros(size, size, dtype=torch.float64, device=device)
    return matrix.scatter_add_(1, places, (weights / weights.sum()).expand(size, -1)).to(dtype)


def _slope(images: Tensor, axis: int) -> Tensor:
    """Return central differences along an axis; at the borders the outermost pixel is repeated."""
    padding = (0, 0, 1, 1) if axis == -2 else (1, 1, 0, 0)
    wide = functional.pad(images, padding, mode="replicate")
    size = images.shape[axis]
    return (wide.narrow(axis, 2, size) - wide.narrow(axis, 0, size)) / 2
