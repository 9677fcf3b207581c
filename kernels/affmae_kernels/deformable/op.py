"""The public deformable attention: what it computes, the search it includes, and the checks before it does."""

from __future__ import annotations

import torch
from torch import Tensor

from .._autocast import to_autocast
from .._check import check_same_device, check_shape
from .._dispatch import runs_in_triton
from ..search.index import SiteIndex
from ..search.op import nearest
from .reference import POINT_NEIGHBOURS, deformable_attention_reference
from .registered import deformable_attention_op

WIDEST_HEAD = 256
"""Channels per head that the kernels keep on the chip."""


def deformable_attention(
    value: Tensor,
    positions: Tensor,
    points: Tensor,
    mixing: Tensor,
    power: Tensor,
    grid: tuple[int, int] | None = None,
    index: SiteIndex | None = None,
) -> Tensor:
    r"""Sample the values at free points, each interpolated from its 4 nearest tokens, and mix the samples of a query.

    .. math:: y_q = \sum_p a_{qp} \sum_{j \in N_4(z_{qp})} \mathrm{softmax}_j(-P (|z_{qp} - p_j| + 10^{-6})) \, v_j

    with :math:`P = \max(\mathrm{power}, 10^{-6})`. Gradients flow to values, points (through the distances), mixing weights and
    power; the gradient of a distance at 0 is 0. Source: AFFMAE (arXiv 2602.16249), decoder.

    Parameters
    ----------
    value
        ``[B, n, H, d]``.
    positions
        ``[B, n, 2]``, ``(x, y)`` in patches; no gradient flows to them.
    points
        ``[B, q, H, P, 2]``, P sampling points per query and head.
    mixing
        ``[B, q, H, P]``, weights that sum to 1 over P.
    power
        Scalar tensor.
    grid
        As in :func:`~affmae_kernels.nearest`: ``(h, w)`` if the positions are different cells of a grid.
    index
        What :func:`~affmae_kernels.site_index` made of these positions and this grid; None computes it here.

    Returns
    -------
    Tensor
        ``[B, q, H, d]``.

    Raises
    ------
    ValueError
        If shapes or devices do not fit.
    """
    check_shape("value", value, (None, None, None, None), "[B, n, H, d]")
    batch, count, heads, _ = value.shape
    check_shape("positions", positions, (batch, count, 2), "[B, n, 2]")
    check_shape("points", points, (batch, None, heads, None, 2), "[B, q, H, P, 2]")
    check_shape("mixing", mixing, tuple(points.shape[:-1]), "[B, q, H, P]")
    check_shape("power", power, (), "a scalar")
    if index is not None:
        if grid is None:
            raise ValueError("an index was given, but no grid: give the grid that the index was made for")
        check_shape("index.cells", index.cells, (batch, grid[0] * grid[1]), "[B, h·w]")
    check_same_device(value=value, positions=positions, points=points, mixing=mixing)
    (value,) = to_autocast(value)
    positions = positions.detach()
    limit = None if value.shape[-1] <= WIDEST_HEAD else f"{value.shape[-1]} channels per head, more than {WIDEST_HEAD}"
    in_triton = runs_in_triton(value.device, value.dtype, limit)
    with torch.autocast(value.device.type, enabled=False):
        if in_triton:
            known = index or (None,) * len(SiteIndex._fields)
            sampled: Tensor = deformable_attention_op(value, positions.float(), points.float(), mixing, power, grid, *known)[0]
            return sampled
        flat = points.detach().flatten(1, 3)
        wide = torch.float64 if value.dtype == torch.float64 else torch.float32
        found = nearest(flat.to(wide), positions.to(wide), POINT_NEIGHBOURS, grid)
        neighbours = found.view(*points.shape[:-1], found.shape[-1])
        return deformable_attention_reference(value, positions, points, mixing, power, neighbours)
