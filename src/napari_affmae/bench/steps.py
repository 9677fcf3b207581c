"""The two training steps that are compared, each as fast as its user can have it without effort."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..engine.device import make_fabric
from ..engine.optimizer import OptimizerSettings, make_optimizer
from ..engine.training_step import TrainingStep
from ..model.mae import MaskedAutoencoder
from ..model.masking import draw_mask
from ..model_config import ModelConfig, PresetName
from .vit_mae import SIZES, VitMAE

Step = Callable[[], Tensor]
"""Makes a step and returns its loss, on the device."""

SETTINGS = OptimizerSettings(learning_rate=1e-4, betas=(0.9, 0.95), weight_decay=0.05, clip=5.0)
PATCH = 8


def batch_of(size: int, side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise images ``[B, 1, side, side]`` with visible and hidden ids, half of the patches each."""
    torch.manual_seed(0)
    images = torch.randn(size, 1, side, side, device=device)
    grid = side // PATCH, side // PATCH
    return images, *draw_mask(size, grid, 0.5, "perlin", device, None)


def our_step(preset: PresetName, side: int, size: int, device: torch.device) -> Step:
    """Return our training step, as the engine makes it."""
    return step_of(MaskedAutoencoder(ModelConfig.preset(preset)).to(device), side, size, device)


def step_of(model: MaskedAutoencoder, side: int, size: int, device: torch.device) -> Step:
    """Return the training step of a model on its device."""
    optimizer = make_optimizer(model, SETTINGS, device)
    step = TrainingStep(model, lambda batch: model.training_loss(*batch), optimizer, make_fabric(device), SETTINGS.clip)
    batch = batch_of(size, side, device)
    return lambda: step(batch)["loss"]


def vit_step(preset: PresetName, side: int, size: int, device: torch.device, *, compiled: bool) -> Step:
    """Return the step of the ViT-MAE next to a preset: bfloat16, flash attention, fused AdamW, compiled if asked for."""
    model = VitMAE(SIZES[preset]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=SETTINGS.betas, weight_decay=0.05, fused=True)
    torch.compiler.reset()  # compiled for another size before, it would now be compiled for any size
    loss_of = torch.compile(model.training_loss, dynamic=False) if compiled else model.training_loss
    batch = batch_of(size, side, device)

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            loss, _ = loss_of(*batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
