"""Operators of networks on adaptive, off-grid tokens: usable on their own, without napari and without Triton.

============================  =====================================================================================
:func:`nearest`               the k sites closest to each point, exact, ties to the lower index
:func:`cluster_attention`     attention to whole clusters, with position bias, padding mask and a blank token
:func:`cluster_tiles`         what several layers of that attention on the same clusters can share
:func:`token_merge`           weighted sums over a survivor's neighbourhood
:func:`deformable_attention`  sampling at free points, each interpolated from its 4 nearest tokens
:func:`site_index`            what several of those, and of searches among the same sites, can share
:func:`residual_norm`         residual sum, dropout or DropPath, and LayerNorm in one pass
:func:`masked_norm_gelu`      hiding, LayerNorm and GELU between the convolutions of a patch embedding
:func:`relu_dropout`          ReLU and dropout in one pass
:func:`linear`                a linear layer with gradients of the weights in float32
:func:`feed_forward`          two linear layers that keep nothing of the hidden one
============================  =====================================================================================

Positions are ``(x, y)`` in patch units, column first. Every operator takes float32 or float64 (and half precision under
autocast, accumulating in float32), on any device, and checks its arguments before it computes.
"""

from ._load_triton import load_triton

load_triton()  # before torch can do it the dangerous way; see that module

from ._dispatch import OperatorReport, describe, report  # noqa: E402
from ._kernel_error import KernelChoiceError, KernelError  # noqa: E402
from ._launch import CompileAhead  # noqa: E402
from .activation.op import relu_dropout  # noqa: E402
from .attention.op import cluster_attention  # noqa: E402
from .deformable.op import deformable_attention  # noqa: E402
from .linear.narrow import NarrowCopies  # noqa: E402
from .linear.op import feed_forward, linear  # noqa: E402
from .masked_norm.op import masked_norm_gelu  # noqa: E402
from .merging.op import token_merge  # noqa: E402
from .norm.op import residual_norm  # noqa: E402
from .relative import relative_features  # noqa: E402
from .search.index import SiteIndex  # noqa: E402
from .search.op import nearest, site_index  # noqa: E402
from .tiles.op import cluster_tiles  # noqa: E402
from .tiles.packing import ClusterTiles  # noqa: E402

__all__ = [
    "ClusterTiles",
    "CompileAhead",
    "KernelChoiceError",
    "KernelError",
    "NarrowCopies",
    "OperatorReport",
    "SiteIndex",
    "cluster_attention",
    "cluster_tiles",
    "deformable_attention",
    "describe",
    "feed_forward",
    "linear",
    "masked_norm_gelu",
    "nearest",
    "relative_features",
    "relu_dropout",
    "report",
    "residual_norm",
    "site_index",
    "token_merge",
]
