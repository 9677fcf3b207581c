"""Colours for the outlines of objects, which lie on the faint colours of their classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap, label_colormap

from ..card import ClassInfo
from .kinds import PREDICTED

_COLORS = 16


def object_colors(classes: Sequence[ClassInfo]) -> CyclicLabelColormap:
    """Return those colours of napari's cycle that differ most from all classes, on whatever greys these lie."""
    # Whatever else the dock shows goes without it.
    from skimage.color import rgb2lab

    rgb = np.array([list(bytes.fromhex(info.color[1:])) for info in classes]) / 255
    greys = np.linspace(0, 1, 5)
    ground = (PREDICTED * rgb[:, None] + (1 - PREDICTED) * greys[:, None]).reshape(-1, 3)
    colors = np.asarray(label_colormap().colors)
    apart = np.linalg.norm(rgb2lab(colors[:, None, :3]) - rgb2lab(ground[None]), axis=-1).min(axis=1)
    # In the order of the cycle, in which neighbours differ.
    return CyclicLabelColormap(colors=colors[np.sort(np.argsort(-apart)[:_COLORS])])
