"""Sums of columns in two fixed rounds: parts of the rows first, then the parts. The order is fixed, so the result is, too."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._blocks import tiles
from .._launch import launch

ROWS = 64
"""Rows that a program adds at a time."""

COLUMNS = 64
"""Columns per program."""

PROGRAMS = 528
"""About as many programs as the first round needs to keep a graphics card busy."""


@triton.jit(do_not_specialize=["rows", "columns", "parts"])
def _column_sum(p_rows, p_out, rows, columns, parts, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    i_part = tl.program_id(1)
    o_column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    m_column = o_column < columns
    b_sum = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(i_part * ROWS, rows, parts * ROWS):
        o_row = start + tl.arange(0, ROWS)
        p_block = p_rows + o_row[:, None].to(tl.int64) * columns + o_column[None, :]
        b_sum += tl.load(p_block, mask=(o_row < rows)[:, None] & m_column[None, :], other=0.0).to(tl.float32)
    tl.store(p_out + i_part * columns + o_column, tl.sum(b_sum, axis=0), mask=m_column)


def column_sum(rows: Tensor) -> Tensor:
    """Return the sums of the columns of ``[N, D]``, float32 ``[D]``."""
    count, dim = rows.shape
    rows = rows.contiguous()
    across = tiles(dim, COLUMNS)
    parts = max(1, min(tiles(count, ROWS), PROGRAMS // across))
    first = torch.empty(parts, dim, dtype=torch.float32, device=rows.device)
    _sum(rows, first)
    if parts == 1:
        return first[0]
    result = torch.empty(1, dim, dtype=torch.float32, device=rows.device)
    _sum(first, result)
    return result[0]


def _sum(rows: Tensor, parts: Tensor) -> None:
    count, dim = rows.shape
    launch(
        "column_sum", rows.device, _column_sum, (tiles(dim, COLUMNS), parts.shape[0]),
        rows, parts, count, dim, parts.shape[0], ROWS=ROWS, COLUMNS=COLUMNS, num_warps=8, enable_fp_fusion=True,
    )  # fmt: skip
