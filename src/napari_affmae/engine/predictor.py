"""A segmenter as a function of tiles, on its device, that copes with little memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import DeviceError
from ..model.segmenter import Segmenter
from .device import describe_device, inference_autocast, is_out_of_memory, narrow_copies
from .recording import Repeated, Tensors
from .tiling import FloatArray


class Predictor:
    """Class probabilities of normalised tiles.

    Where memory runs out it goes on with fewer tiles at once, and keeps to that.

    Parameters
    ----------
    model
        The network; it is moved to the device and stays there.
    device
        Where to compute.

    Attributes
    ----------
    notices
        What the user should know, oldest first; the caller may clear it.
    """

    def __init__(self, model: Segmenter, device: torch.device) -> None:
        self._model = model.to(device)
        self._device = device
        self._forward = Repeated(self._probabilities, self._probabilities, device)
        self._at_once: int | None = None
        self.notices: list[str] = []

    def __call__(self, tiles: FloatArray, background: FloatArray | None = None) -> FloatArray:
        """Return probabilities float32 ``[B, K, h, w]`` of tiles ``[B, C, h, w]`` of an image with a background ``[C]``.

        Without one, each tile is taken for an image.

        Raises
        ------
        DeviceError
            If memory does not suffice for a single tile.
        """
        parts = []
        done = 0
        while done < len(tiles):
            count = min(self._at_once or len(tiles), len(tiles) - done)
            predicted = self._try(tiles[done : done + count], background)
            if predicted is None:
                self._use_less_memory(count)
                continue
            parts.append(predicted)
            done += count
        return np.concatenate(parts)

    def _try(self, tiles: FloatArray, background: FloatArray | None) -> FloatArray | None:
        try:
            tensors = [torch.from_numpy(tiles)]
            if background is not None:
                tensors.append(torch.from_numpy(background)[None, :, None, None])
            return self._predict(tensors).cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the except clause: the traceback holds the tensors that have to go.
        self._forward.forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _predict(self, tensors: Sequence[Tensor]) -> Tensor:
        self._model.eval()
        return self._forward(tuple(tensor.to(self._device) for tensor in tensors))

    def _probabilities(self, tensors: Tensors) -> Tensor:
        with inference_autocast(self._device), narrow_copies(self._model):
            logits: Tensor = self._model(*tensors).logits
        return logits.float().softmax(dim=1)

    def _use_less_memory(self, count: int) -> None:
        if count == 1:
            raise DeviceError(
                f"memory of {describe_device(self._device)} is exhausted by a single tile: choose a smaller tile, close other "
                "programs that use it, or take another device"
            )
        self._at_once = count // 2
        self.notices.append(
            f"memory of {describe_device(self._device)} is exhausted by {count} tiles at once: going on with {self._at_once}"
        )
