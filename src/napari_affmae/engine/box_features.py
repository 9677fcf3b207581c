"""What a network sees in small boxes of an image: features of its last decoder block, averaged over each box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..data.records import ImageRecord
from ..model.mae import MaskedAutoencoder
from ..model.segmenter import Segmenter
from .device import inference_autocast
from .image_source import ArraySource, ImageSource, ResampledSource
from .live_tiles import Region, TiledImage
from .segment import check_channels, default_tile, rescaling
from .tiling import FloatArray


def box_features(
    network: MaskedAutoencoder | Segmenter, device: torch.device, record: ImageRecord, boxes: Sequence[Region], *, rescale: bool
) -> Iterator[tuple[int, FloatArray]]:
    """Yield the number of each box and its features ``[D]``, tile by tile.

    A box is seen in the tile in which its middle lies farthest from the edges, so that its features depend on the image around
    it and not on what else is asked for.

    Parameters
    ----------
    network
        On its device, in evaluation mode.
    record
        The image, of which only the tiles with boxes are read, where its file allows that.
    boxes
        In pixels of the image.
    rescale
        Whether the image is scaled to the network's pixel size if both are known.

    Raises
    ------
    DataError
        If the image cannot be read, or has other channels than the network.
    """
    check_channels(network, record.channels)
    raw = ArraySource(record.open())
    source: ImageSource = raw.normalised(network.card.normalisation or raw.measure())
    factors, _ = rescaling(network, record.pixel_size) if rescale else (None, None)
    if factors is not None:
        source = ResampledSource(source, factors)
    down, across = factors or (1.0, 1.0)
    patch = network.config.patch_size
    tile = default_tile(network)
    tiled = TiledImage(source, tile, tile // 4 // patch * patch, patch)
    middles = np.array([((box.top + box.bottom) // 2 * down, (box.left + box.right) // 2 * across) for box in boxes], np.int64)
    for (top, left), numbers in tiled.by_tile(middles[:, 0], middles[:, 1]):
        grid = _decoded(network, device, tiled.read(top, left))
        for number in numbers.tolist():
            box = boxes[number]
            rows = _patches(box.top * down - top, box.bottom * down - top, patch, grid.shape[0])
            columns = _patches(box.left * across - left, box.right * across - left, patch, grid.shape[1])
            yield number, grid[rows, columns].mean(axis=(0, 1))


@torch.inference_mode()
def _decoded(network: MaskedAutoencoder | Segmenter, device: torch.device, pixels: FloatArray) -> FloatArray:
    """Return the features ``[h, w, D]`` of the patches of a tile."""
    with inference_autocast(device):
        features = network.features(torch.from_numpy(pixels)[None].to(device))
    grid: FloatArray = features.decoder_features[-1][0].float().view(*features.grid, -1).cpu().numpy()
    return grid


def _patches(first: float, last: float, patch: int, count: int) -> slice:
    """Return the patches of a tile that pixels ``first`` to ``last`` (exclusive) of it touch, at least one."""
    start = int(np.clip(first // patch, 0, count - 1))
    return slice(start, max(start + 1, min(count, int(-(-last // patch)))))
