"""What the network describes of tiles, computed once while the network stays as it is."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import torch

from ..model.description import Description
from ..model.segmenter import Segmenter
from .device import inference_autocast
from .recording import Repeated, Tensors
from .tiling import FloatArray


class FeatureCache:
    """The network as a function of single tiles that remembers its latest results.

    A result is found by the content of its tile and the background of the image, so that it serves every place, layer and file
    that shows the same pixels, and never outlives a change of them. Tiles are described one at a time: what is remembered does
    not depend on what was asked for beside it.

    Parameters
    ----------
    model
        The network, on its device.
    limit
        Bytes to keep at most.
    """

    def __init__(self, model: Segmenter, limit: int) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._limit = limit
        self._describe = Repeated(self._run, self._run, self._device)
        self._kept: OrderedDict[bytes, Description] = OrderedDict()
        self.bytes = 0
        self.computed = 0

    def __call__(self, pixels: FloatArray, background: FloatArray) -> Description:
        """Return the description of a normalised tile ``[C, T, T]`` of an image with background ``[C]``, batch axis of one."""
        key = blake2b(pixels.tobytes() + background.tobytes(), digest_size=16).digest()
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        self._model.eval()
        with torch.no_grad():
            tensors = (torch.from_numpy(pixels)[None], torch.from_numpy(background)[None, :, None, None])
            description = self._describe(tuple(tensor.to(self._device) for tensor in tensors))
        if self._device.type == "cuda":  # the next replay overwrites it
            description = description.clone()
        self.computed += 1
        self._kept[key] = description
        self.bytes += description.bytes
        while self.bytes > self._limit and self._kept:
            self.bytes -= self._kept.popitem(last=False)[1].bytes
        return description

    def forget(self) -> None:
        """Drop everything: the network has changed."""
        self._kept.clear()
        self.bytes = 0

    def release(self) -> None:
        """Give back the memory of what was recorded, too."""
        self._describe.forget()
        self.forget()

    def _run(self, tensors: Tensors) -> Description:
        with inference_autocast(self._device):
            return self._model.describe(*tensors)
