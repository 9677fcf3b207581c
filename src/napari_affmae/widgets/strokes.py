"""Where a stroke changed a labels layer, from what napari says about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..data.label_array import Region


def stroke_regions(atoms: Iterable[Any], shape: tuple[int, ...]) -> list[Region] | None:
    """Return the boxes that the parts of a stroke lie in, or None if napari says it in a way that is not known here.

    Parameters
    ----------
    atoms
        The value of a layer's ``paint`` event: boxes with masks for brush, fill and polygon; indices of pixels, the values
        before and after, where a program set them.
    shape
        Shape of the layer's data.
    """
    regions = []
    for atom in atoms:
        if hasattr(atom, "slice_key"):
            parts = atom.slice_key
        elif isinstance(atom, tuple) and len(atom) == 3 and isinstance(atom[0], tuple):
            parts = tuple(slice(int(np.min(at)), int(np.max(at)) + 1) for at in atom[0])
        else:
            return None
        if len(parts) != len(shape) or not all(isinstance(part, slice) for part in parts):
            return None
        regions.append(tuple(slice(*part.indices(size)[:2]) for part, size in zip(parts, shape, strict=True)))
    return regions
