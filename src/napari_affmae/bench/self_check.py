"""Are the operators right on this machine? A benchmark of wrong results is worth nothing, so this runs before every one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import affmae_kernels
import torch
from torch import Tensor
from torch.nn import functional

ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Largest relative error against float64, of results and of gradients."""

_EXACT = 1e-9
_CLUSTERS, _CLUSTER = 5, 8

Arguments = dict[str, Any]


def wrong_operators(device: torch.device) -> list[str]:
    """Return a line about every result and gradient that is off, at a small odd size; an empty list if all are right.

    What runs is held against the same operator in float64, and that against answers that are known beforehand.
    """
    dtypes = [torch.float32, torch.bfloat16] if device.type == "cuda" else [torch.float32]
    found = []
    for name, (operator, arguments, learned) in _cases(device).items():
        truth = _run(operator, arguments, learned, torch.float64)
        constants, answer = _known(name, arguments)
        off = (operator(**{**arguments, **constants}) / answer - 1).abs().max().item()
        if not off <= _EXACT:
            found.append(f"{name} of constants, {torch.float64}: relative error {off:.1e}, allowed {_EXACT:.0e}")
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


def _known(name: str, arguments: Arguments) -> tuple[Arguments, float]:
    """Return arguments to put in place of others, and the one number that the result then consists of.

    Attention takes means, which of ones are one. A merge whose weights are all one is a sum over the tokens of the clusters.
    """
    if name != "token_merge":
        return {key: torch.ones_like(arguments[key]) for key in ("value", "blank_value") if key in arguments}, 1.0
    like = {key: arguments[key] for key in ("tokens", "scores", "norm_weight", "norm_bias")}
    constants = {key: torch.ones_like(value) for key, value in like.items()}
    constants["norm_weight"].zero_()
    return constants, _CLUSTERS * _CLUSTER * float(functional.gelu(torch.ones((), dtype=torch.float64)))


def _cases(device: torch.device) -> dict[str, tuple[Callable[..., Tensor], Arguments, tuple[str, ...]]]:
    source = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        # Numbers that bfloat16 can hold, so that every precision starts from the same ones.
        return torch.randn(shape, generator=source).bfloat16().double().to(device)

    def around(count: int, side: int) -> Arguments:
        ids = torch.stack([torch.randperm(side * side, generator=source)[:count].sort().values for _ in range(2)])
        positions = torch.stack((ids % side, ids // side), dim=-1).double().to(device)
        whole = count // _CLUSTER
        centres = positions[:, : whole * _CLUSTER].reshape(2, whole, _CLUSTER, 2).mean(2)
        clusters = affmae_kernels.nearest(positions, centres, _CLUSTERS)
        return {"positions": positions, "clusters": clusters, "cluster_size": _CLUSTER}

    def attention(where: Arguments) -> Arguments:
        return {
            **{name: draw(2, where["positions"].shape[1], heads, dim) for name in ("query", "key", "value")},
            **where,
            "bias_weight": 0.1 * draw(heads, 5),
            "bias": draw(heads),
            "blank_key": draw(heads, dim),
            "blank_value": draw(heads, dim),
        }

    side, count, heads, dim = 13, 101, 2, 32
    few = around(count, side)
    positions = few["positions"]
    merge = {
        "tokens": draw(2, count, 48),
        "scores": draw(2, count).sigmoid(),
        "survivors": torch.arange(0, count, 3, device=device).expand(2, -1),
        **few,
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
    learned = ("query", "key", "value", "bias_weight", "blank_key")
    return {
        "cluster_attention": (affmae_kernels.cluster_attention, attention(few), learned),
        # PyTorch has a way of its own for few tokens; most steps are made of many.
        "cluster_attention of many": (affmae_kernels.cluster_attention, attention(around(653, 29)), learned),
        "token_merge": (affmae_kernels.token_merge, merge, ("tokens", "scores", "weight")),
        "deformable_attention": (affmae_kernels.deformable_attention, sampling, ("value", "points", "mixing", "power")),
    }
