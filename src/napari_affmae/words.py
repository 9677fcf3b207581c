"""Numbers and names for people, the same in the dock and on the command line."""

from __future__ import annotations

from collections.abc import Sequence

_NAMES = 3
"""Names that are written out."""

NOT_FITTED = "heads, for want of a readout"
"""What the figures of a training on strokes say of itself if it ended before its readout was fitted."""

CLASSES_FROM = {
    "readout": "a readout of single pixels, fitted to the strokes",
    NOT_FITTED: "the network's heads; a readout was not fitted to the strokes",
}
"""What decides about classes, for people; that it is the network's own heads goes without saying."""

HELD_OUT_WORDS = {"images": "whole images", "strokes": "whole strokes", "blocks": "blocks of pixels"}
"""How labels were kept back for the score, by what the history calls it."""


def count(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural if need be."""
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"


def thousands(number: int) -> str:
    """Return a count for people, its digits in groups of three with narrow spaces between."""
    return f"{number:,}".replace(",", "\u202f")


def some_names(names: Sequence[str]) -> str:
    """Return the first names and how many there are besides."""
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence: ``"a"``, ``"a and b"``, ``"a, b and c"``."""
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + list(names[-1:]))


def duration(seconds: float) -> str:
    """Return seconds for people: ``"42 s"``, ``"3:05 min"``, ``"2:10 h"``."""
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60}:{total % 60:02} min"
    return f"{total // 3600}:{total % 3600 // 60:02} h"


def sentence(text: str) -> str:
    """Return a message as a sentence: with a capital, unless it begins with a path or a name, and an end."""
    first = text.partition(" ")[0]
    text = text[:1].upper() + text[1:] if first.isalpha() else text
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def area(value: float) -> str:
    """Return four digits of an area, never as a power of ten: ``"0.0125"``, ``"275.9"``, ``"56 863"``."""
    return thousands(round(value)) if value >= 1000 else f"{value:.4g}"
