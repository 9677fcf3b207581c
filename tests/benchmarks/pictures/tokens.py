"""Where tokens survive: the four stages over a section, and the part of the patches of each class that keep theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_affmae.engine.inspect import Inspection, inspect
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.segmenter import Segmenter

from .sections import Section
from .style import BLUE, GREEN, INK, MARKERS, ORANGE, PURPLE, RED, new_figure, picture, scale_bar
from .survival import survival

COLORS = (BLUE, RED, GREEN, PURPLE, ORANGE)
TOKEN = "#FFD83D"
"""Yellow on a darkened grey image: bright for everybody."""


def draw(model: MaskedAutoencoder | Segmenter, shown: Sequence[Section]) -> Figure:
    """Draw the tokens of the first section, and how they are shared out over the classes in all of them."""
    first = shown[0]
    side = first.image.shape[0]
    inspections = [inspect(model, section.image) for section in shown]
    figure, axes = new_figure(2, 3, 6.1)
    picture(axes[0, 0], first.image, first.name)
    scale_bar(axes[0, 0], side, first.nanometres)
    for place, stage in enumerate(inspections[0].stages):
        panel = axes.flat[place + 1]
        picture(panel, (0.55 * first.image).astype(np.uint8), f"stage {place + 1}: {len(stage.positions_rc)} tokens")
        panel.images[0].set_clim(0, 255)
        size = (side / 512) ** -2 * (0.7, 1.9, 3.5, 6.6)[place]
        panel.scatter(stage.positions_rc[:, 1], stage.positions_rc[:, 0], s=size, c=TOKEN, linewidths=0)
        panel.set_xlim(-0.5, side - 0.5)
        panel.set_ylim(side - 0.5, -0.5)
    _shares(axes[1, 2], shown, inspections)
    return figure


def _shares(axes: Axes, shown: Sequence[Section], inspections: Sequence[Inspection]) -> None:
    names = shown[0].dataset.classes
    kept = np.stack([survival(section.labels, look, len(names)) for section, look in zip(shown, inspections, strict=True)])
    patches, tokens = kept.sum(0)[:, 0], kept.sum(0)[:, 1:]
    even = tokens.sum(0) / patches.sum()
    for place, name in enumerate(names):
        if patches[place] == 0:  # a class that the squares do not show
            continue
        axes.plot(range(1, 5), tokens[place] / patches[place] / even, marker=MARKERS[place], color=COLORS[place], label=name)
    axes.set_xticks(range(1, 5))
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel("stage")
    axes.set_ylim(0, None)
    axes.set_title("tokens per patch, over the mean", pad=4)
    axes.legend(loc="best", handlelength=1.5, labelspacing=0.25, fontsize=9)
