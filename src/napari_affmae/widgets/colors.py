"""Colours between those of napari's themes."""

from __future__ import annotations


def mixed(first: str, second: str) -> str:
    """Return the colour half way between two ``#rrggbb``."""
    pairs = zip(bytes.fromhex(first[1:7]), bytes.fromhex(second[1:7]), strict=True)
    return "#" + bytes((a + b) // 2 for a, b in pairs).hex()
