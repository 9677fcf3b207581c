"""The colours of classes that nobody chose one for."""

from __future__ import annotations

from collections.abc import Collection

PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2", "#b2df8a", "#fb9a99", "#cab2d6",
)  # fmt: skip
"""Okabe and Ito's colours for people with and without colour blindness, without black, and three light ones to go on with.
None is a grey, so that all show on electron micrographs, and the strongest come first. https://jfly.uni-koeln.de/color/"""

BACKGROUND_COLOR = "#0072b2"
"""Class 0 and whatever is called background recede, but must stay visible as paint."""


def next_color(used: Collection[str]) -> str:
    """Return the first colour of the palette that is used least.

    Parameters
    ----------
    used
        Colours of the classes that are there, ``"#rrggbb"``; others than those of the palette do not matter.
    """
    counts = [sum(one.lower() == color for one in used) for color in PALETTE]
    return PALETTE[counts.index(min(counts))]
