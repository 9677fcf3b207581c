"""The five features of an offset between two tokens, inside kernels; :mod:`affmae_kernels.relative` is the truth."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def offset_features(dx, dy):
    """Clip an offset in patches and return it with its length and its unit direction (sine, cosine; 0 at length 0)."""
    dx = tl.minimum(tl.maximum(dx, -127.0), 127.0)
    dy = tl.minimum(tl.maximum(dy, -127.0), 127.0)
    square = dx * dx + dy * dy
    inverse = tl.rsqrt(tl.where(square > 0, square, 1.0))
    return dx, dy, square * inverse, dy * inverse, dx * inverse
