"""The column sum as an operator that torch knows; it counts no operations and nothing is differentiated through it."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("affmae::column_sum", mutates_args=(), schema="(Tensor rows) -> Tensor")
def column_sum_op(rows: Tensor) -> Tensor:
    """Return the sums of the columns of ``[N, D]``, float32 ``[D]``."""
    from ..sums.triton_kernels import column_sum

    return column_sum(rows)


@column_sum_op.register_fake
def _(rows: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[-1], dtype=torch.float32)
