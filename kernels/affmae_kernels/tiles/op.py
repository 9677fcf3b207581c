"""What several layers of attention on the same clusters share: computed once, handed to each of them."""

from __future__ import annotations

import torch
from torch import Tensor

from .._autocast import autocast_dtype
from .._blocks import TILE
from .._blocks import tiles as tiles_for
from .._check import check_shape
from .._dispatch import runs_in_triton
from .packing import ClusterTiles, packing_limit, packing_of


def cluster_tiles(clusters: Tensor | None, cluster_size: int, features: Tensor) -> ClusterTiles | None:
    """Prepare :func:`~affmae_kernels.cluster_attention` for several layers that list the same clusters.

    Parameters
    ----------
    clusters, cluster_size
        As for the attention.
    features
        Tokens of the layers; only their device and dtype matter.

    Returns
    -------
    ClusterTiles or None
        To be handed to the attention as ``tiles``; None where the implementation that runs has no use for it.

    Raises
    ------
    ValueError
        If the clusters are not ``[B, n, c]``.
    """
    if clusters is None:
        return None
    check_shape("clusters", clusters, (None, None, None), "[B, n, c]")
    if not runs_in_triton(clusters.device, autocast_dtype(features), packing_limit(clusters, cluster_size)):
        return None
    return ClusterTiles(*cluster_tiles_op(clusters, cluster_size))


@torch.library.custom_op(
    "affmae::cluster_tiles",
    mutates_args=(),
    schema="(Tensor clusters, int cluster_size) -> "
    "(Tensor lists, Tensor counts, Tensor times, Tensor key_lists, Tensor key_slots, Tensor key_counts)",
)
def cluster_tiles_op(clusters: Tensor, cluster_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of :class:`.ClusterTiles`."""
    from .triton_kernels import meetings

    made = meetings(clusters, packing_of(clusters, cluster_size), clusters.shape[1], TILE, TILE)
    return made.lists, made.counts, made.times, made.key_lists, made.key_slots, made.key_counts


@cluster_tiles_op.register_fake
def _(clusters: Tensor, cluster_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, tokens, near = clusters.shape
    packed = packing_of(clusters, cluster_size)
    count = tiles_for(tokens, TILE)
    width = min(count, TILE * near * packed.tiles_per_cluster)

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return clusters.new_empty(shape, dtype=dtype)

    return (
        empty(batch, count, width, dtype=torch.int32),
        empty(batch, count, dtype=torch.int32),
        empty(batch, count, width, TILE, dtype=packed.dtype),
        empty(batch, count, count, dtype=torch.int32),
        empty(batch, count, count, dtype=torch.int16),
        empty(batch, count, dtype=torch.int32),
    )
