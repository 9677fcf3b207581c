"""A look inside: where tokens survive, what they stand for, and what the features distinguish."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ..config import DeviceName
from ..errors import DataError
from ..model.effective_rank import effective_rank
from ..model.encoder import Stage
from ..model.mae import MaskedAutoencoder
from ..model.model_file import load_model
from ..model.segmenter import Segmenter
from ..model_config import STAGE_NAMES
from .device import device_errors, inference_autocast, limited_threads, resolve_device
from .image_source import ArraySource
from .merge_map import owners, to_pixels, token_density
from .pca import pca_colors
from .segment import check_channels

LARGEST = 1536**2
"""Pixels that are looked into at once. Tokens compete for survival over the whole image, so tiles would show something else."""

Region = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class StageInspection:
    """One encoder stage.

    Attributes
    ----------
    name
        ``"stage 1"`` (shallow) to ``"stage 4"`` (deep).
    positions_rc
        float32 ``[n, 2]``: row and column of each surviving token in pixels of the image, the centre of its patch, or of what
        the image has of it at its end.
    merge_map
        int32 ``[H, W]``: 1 + index of the surviving token that is nearest to the pixel's patch; 0 stays free for "none".
    density
        float32 ``[H, W]``: surviving tokens per patch around a pixel, 0 to 1; 1 everywhere means that nothing was merged.
    pca
        float32 ``[H, W, 3]`` in 0..1: features of the owning token as a colour.
    effective_rank, effective_rank_normalised
        How many directions the features use, and that over ``min(n, D)``.
    """

    name: str
    positions_rc: npt.NDArray[np.float32]
    merge_map: npt.NDArray[np.int32]
    density: npt.NDArray[np.float32]
    pca: npt.NDArray[np.float32]
    effective_rank: float
    effective_rank_normalised: float


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a network makes of an image.

    Attributes
    ----------
    stages
        Four stages, shallow to deep.
    pca
        float32 ``[H, W, 3]`` in 0..1: the last decoder block's features at every patch as colours, interpolated.
    patch_size
        Side of a patch in pixels.
    """

    stages: tuple[StageInspection, ...]
    pca: npt.NDArray[np.float32]
    patch_size: int


def inspect(
    model: MaskedAutoencoder | Segmenter | Path | str,
    image: Any,
    *,
    region: Region | None = None,
    device: DeviceName = "auto",
    threads: int | None = None,
) -> Inspection:
    """Look at tokens, merging and features of a network on one image, nothing hidden.

    Parameters
    ----------
    model
        Either model, which is moved to the device and stays there, or its file or run folder.
    image
        ``[H, W]`` or ``[H, W, C]``: numpy, dask or zarr.
    region
        Rows and columns to look at, two slices without a step; what is returned is of this size and counts from its corner.
    device
        Where to compute.
    threads
        As in :func:`~napari_affmae.engine.pretrain.pretrain`.

    Raises
    ------
    DataError
        If the image, or its region, has more than 1536 × 1536 pixels, or does not fit the model.
    DeviceError
        If the device is not there, or its memory does not suffice.
    """
    place = resolve_device(device)
    network = load_model(model) if isinstance(model, str | Path) else model
    raw = ArraySource(image)
    check_channels(network, raw.channels)
    top, bottom, left, right = _bounds(raw, region)
    normalisation = network.card.normalisation or raw.measure()
    pixels = torch.from_numpy(raw.normalised(normalisation).read(top, bottom, left, right)).unsqueeze(0)
    advice = f"{bottom - top} × {right - left} pixels are too many at once, choose a smaller region"
    with device_errors(place, advice), limited_threads(threads):
        network.to(place).eval()
        return _inspect(network, pixels, place)


@torch.inference_mode()
def _inspect(network: MaskedAutoencoder | Segmenter, image: torch.Tensor, device: torch.device) -> Inspection:
    size = (image.shape[2], image.shape[3])
    patch = network.config.patch_size
    with inference_autocast(device):
        features = network.features(image.to(device))
    stages = tuple(
        _stage(name, stage, features.grid, patch, size) for name, stage in zip(STAGE_NAMES, features.stages, strict=True)
    )
    colors = pca_colors(features.decoder_features[-1][0]).view(*features.grid, 3)
    padded = (features.grid[0] * patch, features.grid[1] * patch)
    smooth = functional.interpolate(colors.permute(2, 0, 1).unsqueeze(0), size=padded, mode="bilinear", align_corners=False)
    picture = smooth[0, :, : size[0], : size[1]].permute(1, 2, 0).contiguous().cpu().numpy()
    return Inspection(stages, picture, patch)


def _stage(name: str, stage: Stage, grid: tuple[int, int], patch: int, size: tuple[int, int]) -> StageInspection:
    tokens, positions = stage.tokens[0].float(), stage.positions_xy[0].float()
    owner = owners(positions, grid)
    rank, normalised = effective_rank(tokens)
    first = positions.flip(-1) * patch
    last = torch.minimum(first + patch, first.new_tensor(size)) - 1
    return StageInspection(
        name=name,
        positions_rc=((first + last) / 2).cpu().numpy(),
        merge_map=to_pixels(owner + 1, patch, size).to(torch.int32).cpu().numpy(),
        density=to_pixels(token_density(owner, len(tokens)), patch, size).contiguous().cpu().numpy(),
        pca=to_pixels(pca_colors(tokens)[owner], patch, size).contiguous().cpu().numpy(),
        effective_rank=rank,
        effective_rank_normalised=normalised,
    )


def _bounds(image: ArraySource, region: Region | None) -> tuple[int, int, int, int]:
    rows, columns = region or (slice(None), slice(None))
    if rows.step not in (None, 1) or columns.step not in (None, 1):
        raise DataError("a region must be two slices without a step")
    top, bottom, _ = rows.indices(image.height)
    left, right, _ = columns.indices(image.width)
    if bottom <= top or right <= left:
        raise DataError(f"the region holds no pixels of this image of {image.height} × {image.width}")
    if (bottom - top) * (right - left) > LARGEST:
        side = int(LARGEST**0.5)
        raise DataError(
            f"{bottom - top} × {right - left} pixels are more than can be looked into at once ({side} × {side}): "
            f"choose a region, for example region=(slice(0, {side}), slice(0, {side}))"
        )
    return top, bottom, left, right
