"""Pictures of what a masked autoencoder sees and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..card import Normalisation
from ..data.records import ImageCollection
from ..errors import DataError
from ..events import Preview
from ..model.mae import MaskedAutoencoder
from ..model.masking import patchify, unpatchify
from .device import inference_autocast
from .image_source import ArraySource, FloatArray

_GREY = 0.5


class Previewer:
    """Shows one fixed tile, the centre of the first readable image, always behind the same mask.

    Parameters
    ----------
    images
        Images to take the tile from.
    model
        The network; its card holds the statistics.
    tile
        Side of the tile in pixels; smaller images are shown whole.
    seed
        Seed of the mask.
    """

    def __init__(self, images: ImageCollection, model: MaskedAutoencoder, tile: int, seed: int) -> None:
        self._model = model
        self._seed = seed
        normalisation = model.card.normalisation
        if normalisation is None:
            raise DataError("a preview needs the statistics of the images: set model.card first")
        image = _centre_of_first(images, normalisation, tile)
        self._image = torch.from_numpy(image).unsqueeze(0)
        low, high = np.percentile(image, (0.5, 99.5))
        self._scale: Callable[[Tensor], Tensor] = lambda values: ((values - low) / max(high - low, 1e-6)).clamp(0, 1)

    @torch.no_grad()
    def draw(self, step: int) -> Preview:
        """Run the network on the tile."""
        model = self._model
        device = next(model.parameters()).device
        image = self._image.to(device)
        model.eval()
        generator = torch.Generator(device).manual_seed(self._seed)
        with inference_autocast(device):
            output = model(image, generator=generator)
        height, width = image.shape[-2:]
        p = model.config.patch_size
        grid = model.config.grid(height, width)
        canvas = torch.zeros(1, model.config.in_channels, grid[0] * p, grid[1] * p, device=device)
        canvas[..., :height, :width] = self._scale(image)
        target = patchify(canvas, p)
        where = output.hidden_ids.unsqueeze(-1).expand(-1, -1, target.shape[-1])
        predicted = self._scale(output.predictions["res2"].float())

        def picture(patches: Tensor) -> npt.NDArray[np.float32]:
            pixels: npt.NDArray[np.float32] = unpatchify(patches, p, grid)[0, :, :height, :width].cpu().numpy()
            return np.ascontiguousarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])

        return Preview(
            "pretrain",
            step,
            masked=picture(target.scatter(1, where, _GREY)),
            reconstruction=picture(target.scatter(1, where, predicted)),
            target=picture(target),
        )


def _centre_of_first(images: ImageCollection, normalisation: Normalisation, tile: int) -> FloatArray:
    """Return the centre ``[C, h, w]`` of the first image that can be read there."""
    failure: DataError | None = None
    for record in images.records:
        try:
            image = ArraySource(record.open(), normalisation)
            top, left = (max(0, (size - tile) // 2) for size in (image.height, image.width))
            return image.read(top, min(top + tile, image.height), left, min(left + tile, image.width))
        except DataError as error:
            failure = error
    raise DataError(f"no image can be read any more, the last because {failure}") from failure
