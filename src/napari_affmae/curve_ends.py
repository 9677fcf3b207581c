"""Where a loss curve begins and ends: what a summary and a card say of it in two numbers."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST = 5


def curve_ends(losses: Sequence[float]) -> tuple[float, float]:
    """Return the means of the first and of the last tenth of a curve, of five points at least where it has ten.

    One batch can be much harder than the next: single readings of a short run say nothing.
    """
    most = max(1, min(max(_LEAST, len(losses) // 10), len(losses) // 2))
    first, last = (sum(part) / len(part) for part in (losses[:most], losses[-most:]))
    return first, last
