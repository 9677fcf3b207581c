"""Operators of networks on adaptive, off-grid tokens: usable on their own, without napari and without Triton.

============================  =====================================================================================
:func:`nearest`               the k sites closest to each point, exact, ties to the lower index
:func:`cluster_attention`     attention to whole clusters, with position bias, padding mask and a blank token
:func:`token_merge`           weighted sums over a survivor's neighbourhood
:func:`deformable_attention`  sampling at free points, each interpolated from its 4 nearest tokens
============================  =====================================================================================

Positions are ``(x, y)`` in patch units, column first. Every operator takes float32 or float64 (and half precision under
autocast, accumulating in float32), on any device, and checks its arguments before it computes.
"""

from ._load_triton import load_triton

load_triton()  # before torch can do it the dangerous way; see that module

from ._dispatch import OperatorReport, describe, report  # noqa: E402
from ._kernel_error import KernelChoiceError, KernelError  # noqa: E402
from .attention.op import cluster_attention  # noqa: E402
from .deformable.op import deformable_attention  # noqa: E402
from .merging.op import token_merge  # noqa: E402
from .relative import relative_features  # noqa: E402
from .search.op import nearest  # noqa: E402

__all__ = [
    "KernelChoiceError",
    "KernelError",
    "OperatorReport",
    "cluster_attention",
    "deformable_attention",
    "describe",
    "nearest",
    "relative_features",
    "report",
    "token_merge",
]
