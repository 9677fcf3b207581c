"""Pictures of what a masked autoencoder sees and what it makes of it."""

from __future__ import annotations

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
        image, dtype = _centre_of_first(images, normalisation, tile)
        self._image = torch.from_numpy(image).unsqueeze(0)
        self._limits = torch.from_numpy(_limits(image, dtype, normalisation)).float()

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
        canvas[..., :height, :width] = image
        seen = patchify(canvas, p)
        where = output.hidden_ids.unsqueeze(-1).expand(-1, -1, seen.shape[-1])

        def pixels(patches: Tensor) -> Tensor:
            return unpatchify(patches, p, grid)[0, :, :height, :width].cpu()

        target = self._shown(pixels(seen))
        is_hidden = pixels(torch.zeros_like(seen).scatter(1, where, 1.0)) > 0
        return Preview(
            "pretrain",
            step,
            masked=_picture(target.masked_fill(is_hidden, _GREY)),
            reconstruction=_picture(self._shown(pixels(seen.scatter(1, where, output.predictions["res2"].float())))),
            target=_picture(target),
        )

    def _shown(self, values: Tensor) -> Tensor:
        """Scale what the network sees, ``[C, H, W]``, to 0..1."""
        low, high = self._limits[0], self._limits[1]
        return ((values - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


def _limits(image: FloatArray, dtype: str, normalisation: Normalisation) -> npt.NDArray[np.float64]:
    """Return what is shown as 0 and as 1 of an image ``[C, H, W]``, ``[2, C, 1, 1]`` in the units of the network.

    Bytes of several channels are colours and stay what they are, as in the viewer. The statistics of the channels differ: on
    one scale for all, what is normalised has other hues.
    """
    if dtype == "uint8" and len(image) > 1:
        limits = (np.array([[0.0], [255.0]]) - normalisation.mean) / normalisation.std
    else:
        limits = np.percentile(image, (0.5, 99.5), axis=(1, 2))
    return limits[..., None, None]


def _picture(values: Tensor) -> npt.NDArray[np.float32]:
    pixels: npt.NDArray[np.float32] = values.numpy()
    return np.ascontiguousarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])


def _centre_of_first(images: ImageCollection, normalisation: Normalisation, tile: int) -> tuple[FloatArray, str]:
    """Return the centre ``[C, h, w]`` of the first image that can be read there, and the data type of its file."""
    failure: DataError | None = None
    for record in images.records:
        try:
            image = ArraySource(record.open(), normalisation)
            top, left = (max(0, (size - tile) // 2) for size in (image.height, image.width))
            centre = image.read(top, min(top + tile, image.height), left, min(left + tile, image.width))
            return centre, record.dtype
        except DataError as error:
            failure = error
    raise DataError(f"no image can be read any more, the last because {failure}") from failure
