"""Which classes have too little paint to be learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..card import ClassInfo
from ..words import listed

FEW_PIXELS = 200
"""Below this many painted pixels a class is starved."""

FEW_OF_MOST = 0.02
"""So is one with less than this part of the pixels of the class that has most."""


def starved(classes: Sequence[ClassInfo], painted: Mapping[int, int]) -> dict[int, str]:
    """Return the classes with too little paint, by id, each with a sentence; none as long as nothing is painted."""
    most = max(classes, key=lambda info: painted.get(info.id, 0), default=None)
    if most is None or not painted.get(most.id, 0):
        return {}
    reasons = {}
    for info in classes:
        pixels = painted.get(info.id, 0)
        if not pixels:
            reasons[info.id] = f"No paint for {info.name} yet."
        elif pixels < FEW_PIXELS:
            reasons[info.id] = f"Few pixels for {info.name}: a little more paint will help."
        elif pixels < FEW_OF_MOST * painted[most.id]:
            share = f"{pixels / painted[most.id]:.1%}"
            reasons[info.id] = f"{info.name} has {share} of the pixels of {most.name}: more paint will help it to be found."
    return reasons


def few_pixels_warning(classes: Sequence[ClassInfo], painted: Mapping[int, int]) -> str:
    """Return one gentle sentence for each way to have too little paint, or an empty string."""
    reasons = starved(classes, painted)
    names = {info.id: info.name for info in classes}
    few = [names[class_id] for class_id in reasons if 0 < painted.get(class_id, 0) < FEW_PIXELS]
    none = [names[class_id] for class_id in reasons if not painted.get(class_id, 0)]
    parts = [reasons[class_id] for class_id in reasons if painted.get(class_id, 0) >= FEW_PIXELS]
    if few:
        parts.append(f"Few pixels for {listed(few)}: a little more paint will help.")
    if none:
        parts.append(f"No paint for {listed(none)} yet.")
    return " ".join(parts)


def is_background(info: ClassInfo) -> bool:
    """Whether a class is the background: what is none of the others, as opposed to not labelled."""
    return info.name.strip().casefold() == "background"
