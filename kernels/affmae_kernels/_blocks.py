"""Tile sizes shared by the Triton kernels, and the rounding that goes with them. Imports no Triton.

Few and fixed: measured once, the same for every shape, so that nothing is searched for at a user's first click.
"""

from __future__ import annotations

import torch

TILE = 32
"""Tokens per tile, of queries and of keys: four clusters of eight."""

SURVIVORS = 16
"""Survivors per tile of the token merge; with their 4 weights each they fill 64 rows of a matrix product."""

LEAST_DOT = 16
"""The matrix units multiply blocks of at least this many rows and columns."""


def tiles(count: int, tile: int) -> int:
    """Return how many tiles of ``tile`` hold ``count`` rows."""
    return -(-count // tile)


def power_of_two(count: int) -> int:
    """Return the smallest power of two that is not below ``count``."""
    return 1 << max(0, count - 1).bit_length()


def precision(dtype: torch.dtype) -> str:
    """Return how the matrix units treat operands: float32 keeps all its bits, half precision has none to lose."""
    return "ieee" if dtype == torch.float32 else "tf32"
