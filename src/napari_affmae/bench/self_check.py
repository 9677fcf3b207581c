"""Are the operators right on this machine? A benchmark of wrong results is worth nothing, so this runs before every one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import affmae_kernels
import torch
from torch import Tensor

ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Largest relative error against float64, of results and of gradients."""

Arguments = dict[str, Any]


def wrong_operators(device: torch.device) -> list[str]:
    """Return a line about every result and gradient that is off, at a small odd size; an empty list if all are right."""
    dtypes = [torch.float32, torch.bfloat16] if device.type == "cuda" else [torch.float32]
    found = []
    for name, (operator, arguments, learned) in _cases(device).items():
        truth = _run(operator, arguments, learned, torch.float64)
        for dtype in dtypes:
            results = _run(operator, arguments, learned, dtype)
            for part, wanted in truth.items():
                error = ((results[part].double() - wanted).norm() / wanted.norm().clamp_min(1e-12)).item()
                if not error <= ALLOWED[dtype]:
                    found.append(f"{name}, {part}, {dtype}: relative error {error:.1e}, allowed {ALLOWED[dtype]:.0e}")
    return found


def _run(
    operator: Callable[..., Tensor], arguments: Arguments, learned: tuple[str, ...], dtype: torch.dtype
) -> dict[str, Tensor]:
    given = {}
    for name, value in arguments.items():
        floating = isinstance(value, Tensor) and value.is_floating_point()
        # Features take the precision that is tried; positions and weights stay float32 at least, as in training.
        narrow = dtype if name in ("query", "key", "value", "tokens") else torch.promote_types(dtype, torch.float32)
        given[name] = value.to(narrow).requires_grad_(name in learned) if floating else value
    output = operator(**given)
    weights = torch.linspace(-1, 1, output.numel(), device=output.device).view(output.shape)
    grads = torch.autograd.grad((output.double() * weights).sum(), [given[name] for name in learned])
    return {"result": output.detach(), **dict(zip((f"gradient of {name}" for name in learned), grads, strict=True))}


def _cases(device: torch.device) -> dict[str, tuple[Callable[..., Tensor], Arguments, tuple[str, ...]]]:
    source = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        # Numbers that bfloat16 can hold, so that every precision starts from the same ones.
        return torch.randn(shape, generator=source).bfloat16().double().to(device)

    side, count, heads, dim = 13, 101, 2, 32
    ids = torch.stack([torch.randperm(side * side, generator=source)[:count].sort().values for _ in range(2)])
    positions = torch.stack((ids % side, ids // side), dim=-1).double().to(device)
    centres = positions[:, :96].reshape(2, 12, 8, 2).mean(2)
    around = {
        "positions": positions,
        "clusters": affmae_kernels.nearest(positions, centres, 5),
        "cluster_size": 8,
    }
    attention = {
        **{name: draw(2, count, heads, dim) for name in ("query", "key", "value")},
        **around,
        "bias_weight": 0.1 * draw(heads, 5),
        "bias": draw(heads),
        "blank_key": draw(heads, dim),
        "blank_value": draw(heads, dim),
    }
    merge = {
        "tokens": draw(2, count, 48),
        "scores": draw(2, count).sigmoid(),
        "survivors": torch.arange(0, count, 3, device=device).expand(2, -1),
        **around,
        "weight": draw(4, 5),
        "bias": draw(4),
        "norm_weight": draw(4),
        "norm_bias": draw(4),
    }
    sampling = {
        "value": draw(2, count, heads, dim),
        "positions": positions,
        "points": positions[:, :40, None, None] + draw(2, 40, heads, 4, 2),
        "mixing": draw(2, 40, heads, 4).softmax(-1),
        "power": torch.ones((), dtype=torch.float64, device=device),
        "grid": (side, side),
    }
    return {
        "cluster_attention": (
            affmae_kernels.cluster_attention,
            attention,
            ("query", "key", "value", "bias_weight", "blank_key"),
        ),
        "token_merge": (affmae_kernels.token_merge, merge, ("tokens", "scores", "weight")),
        "deformable_attention": (affmae_kernels.deformable_attention, sampling, ("value", "points", "mixing", "power")),
    }
