"""The slices of a stack in the order in which a user wants to see them: the current one, then its neighbours, then the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .plane import spatial_shape

if TYPE_CHECKING:
    from .plane import Plane


def slices_from(plane: Plane) -> list[Plane]:
    """Return every plane of a stack, nearest to ``plane`` first, and the later one of two that are equally near."""

    def how_far(index: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        steps = [there - here for there, here in zip(index, plane.index, strict=True)]
        return sum(map(abs, steps)), tuple(-step for step in steps)

    return [replace(plane, index=index) for index in sorted(np.ndindex(*spatial_shape(plane.layer)[:-2]), key=how_far)]
