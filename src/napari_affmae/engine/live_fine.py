"""Finer training for live mode: the whole network learns from the paint, and the change is kept only if it helps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..config import LiveConfig
from ..data.augment import augment
from ..data.label_images import LabelledImage
from ..data.labelled_tiles import LabelledSampler
from ..model.segmenter import Segmenter
from .device import make_fabric, seeded
from .finetune import statistics_of
from .losses import class_weights, finetune_loss
from .optimizer import OptimizerSettings, make_optimizer, set_learning_rate
from .recording import Tensors
from .schedule import LEAST
from .training_step import TrainingStep

_BETAS = (0.9, 0.999)
_PIXELS_CPU, _PIXELS = 256**2, 8 * 512**2
"""Pixels of a step."""

_WARM_UP = 0.2

MOST_PIXELS = 1 << 26
"""Pixels of an image up to which its paint is trained on: the sampler looks at all of them, and a stroke waits for that."""


class FineTraining:
    """Optimizer steps on the whole network and its heads, with one optimizer that lives as long as the session.

    Parameters
    ----------
    model
        The network, on its device.
    config
        Settings.
    tile
        Side of the tiles in pixels.
    """

    def __init__(self, model: Segmenter, config: LiveConfig, tile: int) -> None:
        self._model = model
        self._config = config
        self._tile = tile
        self._device = next(model.parameters()).device
        self._batch = max(1, (_PIXELS_CPU if self._device.type == "cpu" else _PIXELS) // tile**2)
        settings = OptimizerSettings(config.learning_rate, _BETAS, config.weight_decay, config.clip, config.layer_decay)
        self._optimizer = make_optimizer(model, settings, self._device)
        self._step = TrainingStep(model, self._loss, self._optimizer, make_fabric(self._device), config.clip)
        self._made = 0

    def sampler(self, examples: Sequence[LabelledImage]) -> LabelledSampler:
        """Return where to draw tiles from, with some of the paint kept back where it can be spared."""
        model, config = self._model, self._config
        return LabelledSampler(
            examples,
            model.card.classes,
            statistics_of(model.card),
            self._tile,
            self._batch,
            config.seed,
            sparse=True,
            held_out=config.held_out,
        )

    def run(self, sampler: LabelledSampler) -> Iterator[float]:
        """Train for as long as the settings say; yield the loss of each step."""
        config = self._config
        weights = class_weights(sampler.class_pixels).to(self._device)
        begun = time.perf_counter()
        for step in range(config.fine_steps):
            used = max(step / config.fine_steps, (time.perf_counter() - begun) / config.fine_seconds)
            if used >= 1:
                return
            self._made += 1
            images, targets = (torch.from_numpy(array).to(self._device) for array in sampler.batch(self._made))
            factor = min(1.0, (used + 0.01) / _WARM_UP) * (LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * used)))
            set_learning_rate(self._optimizer, factor * config.learning_rate)
            with seeded(self._device, config.seed, self._made) as generator:
                images, targets = augment(images, targets, jitter=config.jitter, generator=generator)
                measured = self._step((images, targets, weights.expand(len(images), -1)))
            yield float(measured["loss"])

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the network's weights, without its readout."""
        return {name: value.detach().clone() for name, value in self._trained().items()}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Write weights back; they stay where they are in memory, as recorded steps need it."""
        with torch.no_grad():
            for name, value in self._trained().items():
                value.copy_(weights[name])

    def release(self) -> None:
        """Give back the memory of what was recorded."""
        self._step.forget()

    def _trained(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._model.state_dict().items() if not name.startswith("readout.")}

    def _loss(self, tensors: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        images, targets, weights = tensors
        return finetune_loss(self._model.heads_output(images), targets, weights[0])
