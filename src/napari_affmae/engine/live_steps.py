"""Optimizer steps of live training: quick ones on encoded tiles, fine ones on pixels, with one optimizer that stays warm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import LiveConfig
from ..model.encoder import Stage
from ..model.segmenter import Segmenter
from .device import inference_autocast, make_fabric, seeded
from .live_features import FeatureCache, stacked
from .live_paint import Paint, Window
from .live_tiles import TiledImage
from .losses import class_weights, finetune_loss, masked_cross_entropy
from .optimizer import OptimizerSettings, make_optimizer, set_learning_rate
from .recording import Repeated, Tensors
from .tiling import FloatArray
from .training_step import Measured, TrainingStep

_BETAS = (0.9, 0.999)


class LiveSteps:
    """What live training does with the network.

    Shapes are the same from step to step, so that a graphics card can replay them.

    Parameters
    ----------
    model
        The network, on its device.
    config
        Settings.
    tile, window
        Sides in pixels.
    """

    def __init__(self, model: Segmenter, config: LiveConfig, tile: int, window: int) -> None:
        self.model = model
        self._config = config
        self._device = next(model.parameters()).device
        self._window = window
        patch = model.config.patch_size
        self._grid = model.config.grid(tile, tile)
        self._shape = model.config.grid(window, window)
        self._raster = torch.from_numpy(
            np.stack(np.divmod(np.arange(self._shape[0] * self._shape[1]), self._shape[1])[::-1], -1)
        )
        self._patch = patch
        self.features = FeatureCache(model, config.cache_bytes)
        self._fabric = make_fabric(self._device)
        settings = OptimizerSettings(config.learning_rate, _BETAS, config.weight_decay, config.clip, config.layer_decay)
        self._optimizer = make_optimizer(model, settings, self._device)
        self._quick = TrainingStep(model, self._quick_loss, self._optimizer, self._fabric, config.clip)
        self._fine = TrainingStep(model, self._fine_loss, self._optimizer, self._fabric, config.clip)
        self._decode = Repeated(self._probabilities, self._probabilities, self._device)
        self._look = Repeated(self._window_logits, self._window_logits, self._device)
        self._made = 0

    def quick(self, paint: Paint, images: Mapping[str, TiledImage], windows: Sequence[Window], factor: float) -> Measured:
        """Train decoder and heads on windows whose tiles are encoded already, or will be here."""
        tensors = self._encoded(paint, images, windows)
        weights = class_weights(paint.pixels).to(self._device).expand(len(windows), -1)
        set_learning_rate(self._optimizer, factor * self._config.learning_rate)
        with seeded(self._device, self._config.seed, self._made):
            self._made += 1
            return self._quick((*tensors, weights))

    def fine(self, images: Tensor, targets: Tensor, pixels: np.ndarray, factor: float) -> Measured:
        """Train everything on augmented tiles ``[B, C, T, T]`` with targets ``[B, T, T]``; the features are to be forgotten."""
        weights = class_weights(pixels).to(self._device).expand(len(images), -1)
        set_learning_rate(self._optimizer, factor * self._config.learning_rate)
        with seeded(self._device, self._config.seed, self._made):
            self._made += 1
            return self._fine((images, targets, weights))

    def predict(self, pixels: FloatArray) -> FloatArray:
        """Return probabilities ``[K, T, T]`` of a tile ``[C, T, T]``."""
        stages = self.features(pixels)
        self.model.eval()
        with torch.no_grad():
            return self._decode(_flat(stages))[0].cpu().numpy()

    def loss(self, paint: Paint, images: Mapping[str, TiledImage], windows: Sequence[Window]) -> float:
        """Return the mean cross-entropy on the newest paint in windows, as the network predicts them."""
        self.model.eval()
        total, count = 0.0, 0
        for window in windows:
            *encoded, _ = self._encoded(paint, images, [window])
            targets = torch.from_numpy(paint.targets(window, new=True))[None].to(self._device)
            painted = int((targets >= 0).sum())
            with torch.no_grad():
                logits = self._look(tuple(encoded))
                even = torch.ones(self.model.num_classes, device=self._device)
                total += float(masked_cross_entropy(logits, targets, even)) * painted
            count += painted
        return total / max(count, 1)

    def release(self) -> None:
        """Give back the memory of what was recorded."""
        self._quick.forget()
        self._fine.forget()
        self._decode.forget()
        self._look.forget()
        self.features.forget()

    def _encoded(self, paint: Paint, images: Mapping[str, TiledImage], windows: Sequence[Window]) -> Tensors:
        features = [self.features(images[window.image].read(*window.tile)) for window in windows]
        corners = torch.tensor([(window.column // self._patch, window.row // self._patch) for window in windows])
        places = (self._raster + corners[:, None]).to(self._device, torch.float32)
        targets = torch.from_numpy(np.stack([paint.targets(window) for window in windows])).to(self._device)
        return (*_flat(stacked(features)), places, targets)

    def _quick_loss(self, tensors: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        *encoded, places, targets, weights = tensors
        output = self.model.decode(_stages(encoded), self._grid, (places, self._shape))
        return finetune_loss(output, targets, weights[0])

    def _fine_loss(self, tensors: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        images, targets, weights = tensors
        return finetune_loss(self.model(images), targets, weights[0])

    def _probabilities(self, tensors: Tensors) -> Tensor:
        with inference_autocast(self._device):
            logits = self.model.decode(_stages(tensors), self._grid).logits
        return logits.float().softmax(dim=1)

    def _window_logits(self, tensors: Tensors) -> Tensor:
        *encoded, places = tensors
        with inference_autocast(self._device):
            return self.model.decode(_stages(encoded), self._grid, (places, self._shape)).logits.float()


def _flat(stages: Sequence[Stage]) -> Tensors:
    return tuple(tensor for stage in stages for tensor in (stage.tokens, stage.positions_xy))


def _stages(tensors: Sequence[Tensor]) -> list[Stage]:
    return [Stage(tokens, places) for tokens, places in zip(tensors[::2], tensors[1::2], strict=True)]
