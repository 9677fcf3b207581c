"""What is measured: every operator at the shapes it meets in training ``small`` at 512², batch 16, and at 1024², batch 4.

A case is data: a name, the operator, and how to draw its arguments. Nothing here knows about time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import affmae_kernels
import torch
from torch import Tensor

HALF = torch.bfloat16
CLUSTER = 8


@dataclass(frozen=True)
class Case:
    """One operator at one shape.

    Attributes
    ----------
    name
        Operator and sizes.
    operator
        The public function.
    draw
        Makes the arguments on a device, for a batch of the given size.
    learned
        Names of the arguments that take gradients; empty for a search.
    operations
        Additions and multiplications of the forward pass's sums, per image.
    """

    name: str
    operator: Callable[..., Tensor]
    draw: Callable[[int, torch.device], dict[str, Any]]
    learned: tuple[str, ...]
    operations: int


def _places(batch: int, count: int, side: int, device: torch.device) -> Tensor:
    """Different cells in an order in which eight consecutive ones are close together: 8-row bands, walked column by column."""
    ids = torch.stack([torch.randperm(side * side)[:count] for _ in range(batch)])
    x, y = ids % side, ids // side
    order = ((y // 8) * side * 8 + x * 8 + y % 8).argsort(1)
    return torch.stack((x, y), dim=-1).gather(1, order.unsqueeze(-1).expand(-1, -1, 2)).float().to(device)


def _neighbours(places: Tensor) -> Tensor:
    batch, count = places.shape[:2]
    whole = count // CLUSTER * CLUSTER
    centres = places[:, :whole].reshape(batch, -1, CLUSTER, 2).mean(2)
    return affmae_kernels.nearest(places, centres, min(8, centres.shape[1]))


def attention(tokens: int, heads: int, side: int, dim: int = 32) -> Case:
    """Return cluster attention with 64 neighbours."""

    def draw(batch: int, device: torch.device) -> dict[str, Any]:
        places = _places(batch, tokens, side, device)
        make = {"device": device, "dtype": HALF}
        return {
            "query": torch.randn(batch, tokens, heads, dim, **make),
            "key": torch.randn(batch, tokens, heads, dim, **make),
            "value": torch.randn(batch, tokens, heads, dim, **make),
            "positions": places,
            "clusters": _neighbours(places),
            "cluster_size": CLUSTER,
            "bias_weight": torch.randn(heads, 5, device=device) * 0.1,
            "bias": torch.randn(heads, device=device),
            "blank_key": torch.randn(heads, dim, device=device),
            "blank_value": torch.randn(heads, dim, device=device),
        }

    learned = ("query", "key", "value", "bias_weight", "bias", "blank_key", "blank_value")
    name = f"cluster_attention {tokens} tokens, {heads} heads of {dim}"
    return Case(name, affmae_kernels.cluster_attention, draw, learned, 4 * tokens * heads * (64 + 1) * dim)


def merge(tokens: int, survivors: int, dim: int, side: int) -> Case:
    """Return the token merge with 64 neighbours."""

    def draw(batch: int, device: torch.device) -> dict[str, Any]:
        places = _places(batch, tokens, side, device)
        kept = torch.stack([torch.randperm(tokens)[:survivors].sort().values for _ in range(batch)])
        return {
            "tokens": torch.randn(batch, tokens, dim, device=device, dtype=HALF),
            "scores": torch.rand(batch, tokens, device=device),
            "positions": places,
            "survivors": kept.to(device),
            "clusters": _neighbours(places),
            "cluster_size": CLUSTER,
            "weight": torch.randn(4, 5, device=device),
            "bias": torch.randn(4, device=device),
            "norm_weight": torch.randn(4, device=device),
            "norm_bias": torch.randn(4, device=device),
        }

    learned = ("tokens", "scores", "weight", "bias", "norm_weight", "norm_bias")
    name = f"token_merge {tokens} to {survivors} tokens of {dim}"
    return Case(name, affmae_kernels.token_merge, draw, learned, 2 * survivors * 64 * 4 * dim)


def _points(batch: int, queries: int, heads: int, side: int, device: torch.device) -> Tensor:
    places = _places(batch, queries, side, device)
    return places[:, :, None, None] + 2 * torch.randn(batch, queries, heads, 4, 2, device=device)


def deformable(tokens: int, queries: int, side: int, heads: int = 6, dim: int = 64) -> Case:
    """Return deformable attention with 4 points per query and head, search included."""

    def draw(batch: int, device: torch.device) -> dict[str, Any]:
        return {
            "value": torch.randn(batch, tokens, heads, dim, device=device, dtype=HALF),
            "positions": _places(batch, tokens, side, device),
            "points": _points(batch, queries, heads, side, device),
            "mixing": torch.randn(batch, queries, heads, 4, device=device).softmax(-1),
            "power": torch.ones((), device=device),
            "grid": (side, side),
        }

    learned = ("value", "points", "mixing", "power")
    name = f"deformable_attention {queries} queries on {tokens} tokens"
    return Case(name, affmae_kernels.deformable_attention, draw, learned, 2 * queries * heads * 16 * dim)


def search(sites: int, queries: int, side: int) -> Case:
    """Return the search of 24 points per query for their 4 nearest sites on a grid."""

    def draw(batch: int, device: torch.device) -> dict[str, Any]:
        return {
            "points": _points(batch, queries, 6, side, device).flatten(1, 3),
            "sites": _places(batch, sites, side, device),
            "k": 4,
            "grid": (side, side),
        }

    return Case(f"nearest {24 * queries} points on {sites} sites", affmae_kernels.nearest, draw, (), 0)


def stages(side: int) -> tuple[int, int, int, int]:
    """Return the tokens of the four stages with half the patches hidden and 0.4 surviving each merge."""
    first = side * side // 2
    return first, int(first * 0.4), int(int(first * 0.4) * 0.4), int(int(int(first * 0.4) * 0.4) * 0.4)


def cases(side: int) -> list[Case]:
    """Return every operator of a training step of ``small`` on a grid of ``side × side`` patches."""
    counts = stages(side)
    queries = side * side - counts[0]
    dims, heads = (96, 192, 384), (3, 6, 12, 16)
    found = [attention(count, number, side) for count, number in zip(counts, heads, strict=True)]
    found += [merge(counts[i], counts[i + 1], dims[i], side) for i in range(3)]
    found += [search(count, queries, side) for count in counts]
    return found + [deformable(count, queries, side) for count in counts]


def bytes_moved(given: dict[str, Any], output: Tensor) -> int:
    """Return the bytes of reading every argument and writing the output once."""
    tensors = [value for value in given.values() if isinstance(value, Tensor)]
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in (*tensors, output))
