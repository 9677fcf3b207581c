"""The public cluster attention: what it computes, and the checks before it does."""

from __future__ import annotations

import torch
from torch import Tensor

from .._autocast import to_autocast
from .._blocks import TILE
from .._blocks import tiles as tiles_for
from .._check import check_same_device, check_shape
from .._dispatch import runs_in_triton
from ..tiles.op import cluster_tiles
from ..tiles.packing import ClusterTiles, packing_limit
from .dense import FEW, cluster_attention_dense
from .reference import cluster_attention_reference
from .registered import cluster_attention_op

WIDEST_HEAD = 128
"""Channels per head that the kernels keep on the chip."""


def cluster_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    positions: Tensor,
    clusters: Tensor | None,
    cluster_size: int,
    bias_weight: Tensor,
    bias: Tensor,
    blank_key: Tensor,
    blank_value: Tensor,
    tiles: ClusterTiles | None = None,
) -> Tensor:
    r"""Let every token attend to the members of its neighbour clusters and to one learned blank token per head.

    .. math::
        l_{ij} = q_i \cdot k_j / \sqrt d + W_h \cdot \varphi(p_j - p_i) + b_h,\qquad l_{i0} = q_i \cdot k_0 / \sqrt d

    with :math:`\varphi` of :func:`~affmae_kernels.relative_features`; softmax over neighbours and blank. Source:
    AutoFocusFormer (arXiv 2304.12406), section 3.2; AFFMAE (arXiv 2602.16249).

    Parameters
    ----------
    query, key, value
        ``[B, n, H, d]``, tokens in cluster order.
    positions
        ``[B, n, 2]``, ``(x, y)`` in patches; no gradient flows to them.
    clusters
        int64 ``[B, n, c]``: ids of the clusters that each token attends to; cluster ``i`` is the rows ``i·m .. i·m + m - 1``,
        and rows beyond n are masked. None lets every token attend to all n tokens.
    cluster_size
        ``m``.
    bias_weight, bias
        ``[H, 5]`` and ``[H]``, the linear map from relative features to a logit.
    blank_key, blank_value
        ``[H, d]``.
    tiles
        What :func:`~affmae_kernels.cluster_tiles` made of these clusters, for several layers to share; None computes it here.

    Returns
    -------
    Tensor
        ``[B, n, H, d]``.

    Raises
    ------
    ValueError
        If shapes or devices do not fit.
    """
    batch, tokens, heads, dim = query.shape if query.dim() == 4 else (-1, -1, -1, -1)
    check_shape("query", query, (None, None, None, None), "[B, n, H, d]")
    check_shape("key", key, (batch, tokens, heads, dim), "[B, n, H, d]")
    check_shape("value", value, (batch, tokens, heads, dim), "[B, n, H, d]")
    check_shape("positions", positions, (batch, tokens, 2), "[B, n, 2]")
    if clusters is not None:
        check_shape("clusters", clusters, (batch, tokens, None), "[B, n, c]")
    check_shape("bias_weight", bias_weight, (heads, 5), "[H, 5]")
    check_shape("bias", bias, (heads,), "[H]")
    check_shape("blank_key", blank_key, (heads, dim), "[H, d]")
    check_shape("blank_value", blank_value, (heads, dim), "[H, d]")
    if tiles is not None:
        if clusters is None:
            raise ValueError("tiles were given, but no clusters: leave tiles out where every token attends to all")
        check_shape("tiles.counts", tiles.counts, (batch, tiles_for(tokens, TILE)), "[B, tiles of n tokens]")
    check_same_device(query=query, key=key, value=value, positions=positions)
    query, key, value = to_autocast(query, key, value)
    positions = positions.detach()
    limit = packing_limit(clusters, cluster_size)
    if dim > WIDEST_HEAD:
        limit = f"{dim} channels per head; the kernel keeps at most {WIDEST_HEAD}"
    in_triton = runs_in_triton(query.device, query.dtype, limit)
    with torch.autocast(query.device.type, enabled=False):
        if not in_triton and clusters is not None and tokens <= FEW:
            return cluster_attention_dense(
                query, key, value, positions, clusters, cluster_size, bias_weight, bias, blank_key, blank_value
            )
        if not in_triton:
            return cluster_attention_reference(
                query, key, value, positions, clusters, cluster_size, bias_weight, bias, blank_key, blank_value
            )
        meet = tiles or cluster_tiles(clusters, cluster_size, query) or (None,) * len(ClusterTiles._fields)
        mixed: Tensor = cluster_attention_op(
            query, key, value, positions.float(), clusters, cluster_size, bias_weight, bias, blank_key, blank_value, *meet
        )[0]
        return mixed
