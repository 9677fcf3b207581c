"""The colours of classes that nobody chose one for."""

from __future__ import annotations

from collections.abc import Collection

PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2", "#b2df8a", "#fb9a99", "#cab2d6",
)  # fmt: skip
"""Okabe and Ito's colours for people with and without colour blindness, without black, and three light ones to go on with.
None is a grey, so that all show on electron micrographs, and the strongest come first. https://jfly.uni-koeln.de/color/"""

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def _towards(color: str, end: tuple[int, int, int], part: float) -> str:
    mixed = (round(value + (goal - value) * part) for value, goal in zip(bytes.fromhex(color[1:]), end, strict=True))
    return "#" + bytes(mixed).hex()


_SHADES = (
    *PALETTE,
    *(_towards(color, _BLACK, 0.35) for color in PALETTE),
    *(_towards(color, _WHITE, 0.5) for color in PALETTE),
)
"""The palette, and what goes on when it is used up: the same darker, then lighter, each told from all others."""

BACKGROUND_COLOR = "#0072b2"
"""Class 0 and whatever is called background recede, but must stay visible as paint."""


def next_color(used: Collection[str]) -> str:
    """Return the first colour that is used least: of the palette, then of darker and lighter shades of it.

    Parameters
    ----------
    used
        Colours of the classes that are there, ``"#rrggbb"``; others than these do not matter.
    """
    counts = [sum(one.lower() == color for one in used) for color in _SHADES]
    return _SHADES[counts.index(min(counts))]
