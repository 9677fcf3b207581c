"""The search as an operator that torch knows: fake tensors for tracing; it has no gradient and counts no operations."""

from __future__ import annotations

import torch
from torch import Tensor

from .index import LISTED


@torch.library.custom_op(
    "affmae::nearest", mutates_args=(), schema="(Tensor points, Tensor sites, int k, int[]? grid) -> Tensor"
)
def nearest_op(points: Tensor, sites: Tensor, k: int, grid: list[int] | None) -> Tensor:
    """Return the ids of the k nearest sites, int32 ``[B, P, k]``."""
    from .triton_kernels import search

    return search(points, sites, k, None if grid is None else (grid[0], grid[1]))


@nearest_op.register_fake
def _(points: Tensor, sites: Tensor, k: int, grid: list[int] | None) -> Tensor:
    batch, count, _ = points.shape
    return points.new_empty(batch, count, k, dtype=torch.int32)


@torch.library.custom_op(
    "affmae::site_index",
    mutates_args=(),
    schema="(Tensor sites, int k, int[] grid) -> (Tensor cells, Tensor near, Tensor counts, Tensor radii)",
)
def site_index_op(sites: Tensor, k: int, grid: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of :class:`.SiteIndex`."""
    from .triton_kernels import make_index

    made = make_index(sites, k, (grid[0], grid[1]))
    return made.cells, made.near, made.counts, made.radii


@site_index_op.register_fake
def _(sites: Tensor, k: int, grid: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, cells = sites.shape[0], grid[0] * grid[1]
    whole = torch.int32
    return (
        sites.new_empty(batch, cells, dtype=whole), sites.new_empty(batch, cells, LISTED, dtype=whole),
        sites.new_empty(batch, cells, dtype=whole), sites.new_empty(batch, cells),
    )  # fmt: skip
