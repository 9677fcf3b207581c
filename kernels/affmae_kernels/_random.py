"""Uniform numbers from a counter: the same place and seed give the same number, so that a backward pass can draw again."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _mix(x):
    """Spread the bits of an integer: the finaliser of MurmurHash3 (A. Appleby, public domain)."""
    x ^= x >> 16
    x *= 0x85EBCA6B
    x ^= x >> 13
    x *= 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
def uniform(p_seed, o_place):
    """Return numbers in [0, 1) with 24 random bits for places below 2³², from two seeds int32 ``[2]``."""
    b_bits = _mix(o_place.to(tl.uint32) ^ tl.load(p_seed).to(tl.uint32, bitcast=True))
    b_bits = _mix(b_bits + tl.load(p_seed + 1).to(tl.uint32, bitcast=True))
    return (b_bits >> 8).to(tl.float32) * (1.0 / 16777216.0)
