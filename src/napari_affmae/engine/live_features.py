"""Encoder features of tiles, computed once while the encoder stays as it is."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import torch

from ..model.encoder import Stage
from ..model.segmenter import Segmenter
from .device import inference_autocast
from .recording import Repeated, Tensors
from .tiling import FloatArray


class FeatureCache:
    """The encoder as a function of single tiles that remembers its latest results.

    A result is found by the content of its tile, so that it serves every place, layer and file that shows the same pixels, and
    never outlives a change of them. Tiles are encoded one at a time: what is remembered does not depend on what was asked for
    beside it.

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
        self._encode = Repeated(self._stages, self._stages, self._device)
        self._kept: OrderedDict[bytes, tuple[list[Stage], int]] = OrderedDict()
        self.bytes = 0
        self.computed = 0

    def __call__(self, pixels: FloatArray) -> list[Stage]:
        """Return the four stages of a normalised tile ``[C, T, T]``, batch axis of one."""
        key = blake2b(pixels.tobytes(), digest_size=16).digest()
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found[0]
        self._model.eval()
        # No inference mode: what is kept is trained on later.
        with torch.no_grad():
            stages = self._encode((torch.from_numpy(pixels)[None].to(self._device),))
        if self._device.type == "cuda":  # the next replay overwrites them
            stages = [Stage(stage.tokens.clone(), stage.positions_xy.clone()) for stage in stages]
        self.computed += 1
        size = sum(stage.tokens.nbytes + stage.positions_xy.nbytes for stage in stages)
        self._kept[key] = stages, size
        self.bytes += size
        while self.bytes > self._limit and self._kept:
            self.bytes -= self._kept.popitem(last=False)[1][1]
        return stages

    def forget(self) -> None:
        """Drop everything: the encoder has changed."""
        self._kept.clear()
        self.bytes = 0

    def _stages(self, tensors: Tensors) -> list[Stage]:
        with inference_autocast(self._device):
            stages: list[Stage] = self._model.encode(tensors[0])
        return stages


def stacked(features: list[list[Stage]]) -> list[Stage]:
    """Put the stages of several tiles of the same size into one batch."""
    return [
        Stage(torch.cat([stage.tokens for stage in level]), torch.cat([stage.positions_xy for stage in level]))
        for level in zip(*features, strict=True)
    ]
