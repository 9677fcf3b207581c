"""AdamW as both training jobs use it: learning rates by depth, and no weight decay where it makes no sense."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..model.network import Network
from ..model.parameter_groups import depth_groups
from .device import mixed_precision


@dataclass(frozen=True)
class OptimizerSettings:
    """What AdamW needs to know.

    Attributes
    ----------
    learning_rate, betas, weight_decay
        Of AdamW; the learning rate is the peak of the schedule.
    layer_decay
        Learning rate of a depth over that of the depth above it; 1 for the same everywhere.
    clip
        Norm that gradients are clipped to.
    """

    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float
    clip: float
    layer_decay: float = 1.0


def make_optimizer(model: Network, settings: OptimizerSettings, device: torch.device) -> torch.optim.AdamW:
    """Build AdamW over all parameters of a network on its device; each group keeps its share of the base rate as ``scale``.

    Vectors and scalars (biases, norms, learned powers) do not decay.
    """
    groups: list[dict[str, Any]] = []
    depths = depth_groups(model)
    deepest = max(group.depth for group in depths)
    for group in depths:
        scale = settings.layer_decay ** (deepest - group.depth)
        matrices, vectors = _by_shape(group.parameters)
        groups.append({"params": matrices, "scale": scale, "weight_decay": settings.weight_decay})
        groups.append({"params": vectors, "scale": scale, "weight_decay": 0.0})
    on_device = mixed_precision(device) == "bf16-mixed"
    for settled in groups:
        # A recorded step reads its learning rate from the device: a number would be recorded with it.
        settled["lr"] = torch.tensor(settings.learning_rate, device=device) if on_device else settings.learning_rate
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=settings.betas,
        capturable=on_device,
        # Fabric's float16 loss scaling cannot clip for the fused implementation; everywhere else it is the fastest, and it
        # can skip a step on the device without asking the host.
        fused=mixed_precision(device) != "16-mixed",
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the base learning rate of this step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["scale"])
        else:
            group["lr"] = rate * group["scale"]


def _by_shape(parameters: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]
