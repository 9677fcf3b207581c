"""Training of the other networks by the parts that train ours: the same tiles, augmentation, schedule and recorded steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from napari_affmae.config import Budget
from napari_affmae.engine.average import WeightAverage
from napari_affmae.engine.batches import Arrays, Batches
from napari_affmae.engine.device import make_fabric
from napari_affmae.engine.losses import masked_cross_entropy, soft_dice_loss
from napari_affmae.engine.optimizer import set_learning_rate
from napari_affmae.engine.schedule import Schedule
from napari_affmae.engine.training_step import TrainingStep

CLIP = 5.0
WEIGHT_DECAY = 0.05

Loss = Callable[[tuple[Tensor, ...]], tuple[Tensor, dict[str, Tensor]]]


def segmentation_loss(network: nn.Module, weights: Tensor, focus: float = 0.0) -> Loss:
    """Return the loss of our main head for a network that returns logits."""

    def loss(tensors: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        logits = network(tensors[0]).float()
        return masked_cross_entropy(logits, tensors[1], weights, focus) + soft_dice_loss(logits, tensors[1]), {}

    return loss


def fit(
    network: nn.Module,
    loss: Loss,
    read: Callable[[int], Arrays],
    prepare: Callable[[tuple[Tensor, ...], torch.Generator], tuple[Tensor, ...]],
    *,
    budget: Budget,
    rate: float,
    betas: tuple[float, float],
    warmup: float,
    seed: int,
    device: torch.device,
    groups: Sequence[Sequence[nn.Parameter]] | None = None,
    layer_decay: float = 1.0,
    average: float = 0.0,
) -> int:
    """Train for a budget and return the number of steps.

    The clock starts after the first step, so that compilation costs none of the time.

    Parameters
    ----------
    loss, read, prepare
        As the methods of :class:`~napari_affmae.engine.task.Task`.
    groups, layer_decay
        Parameters from input to output, and the learning rate of a group over that of the next.
    average
        As in :class:`~napari_affmae.config.FinetuneConfig`; the network ends with the average.
    """
    network.to(device).train()
    optimizer = _adamw(groups or [list(network.parameters())], layer_decay, rate, betas, device)
    step_of = TrainingStep(network, loss, optimizer, make_fabric(device), CLIP)
    schedule = Schedule(budget, warmup, 1.0)
    mean = WeightAverage(network, average) if average > 0 else None
    start, step, fraction = None, 0, 0.0
    torch.manual_seed(seed)
    with Batches(read, device) as batches:
        while fraction < 1:
            set_learning_rate(optimizer, rate * schedule.factor(fraction))
            generator = torch.Generator(device).manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
            measured = step_of(prepare(batches.get(step), generator))
            step += 1
            if mean is not None:
                mean.update(step)
            if start is None or step % 10 == 0:
                measured["loss"].item()  # the card is a few steps behind otherwise
            start = start or time.perf_counter()
            fraction = schedule.fraction(step, time.perf_counter() - start)
    step_of.forget()
    if mean is not None:
        network.load_state_dict(mean.state(), strict=False)
    return step


def _adamw(
    groups: Sequence[Sequence[nn.Parameter]], decay: float, rate: float, betas: tuple[float, float], device: torch.device
) -> torch.optim.AdamW:
    cuda = device.type == "cuda"
    settings = [
        {
            "params": chosen,
            "scale": decay ** (len(groups) - 1 - depth),
            "weight_decay": WEIGHT_DECAY if matrices else 0.0,
            "lr": torch.tensor(rate, device=device) if cuda else rate,
        }
        for depth, group in enumerate(groups)
        for matrices in (True, False)
        if (chosen := [parameter for parameter in group if (parameter.dim() > 1) == matrices])
    ]
    return torch.optim.AdamW(settings, betas=betas, fused=True, capturable=cuda)
