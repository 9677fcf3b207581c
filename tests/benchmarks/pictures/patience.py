"""What more pretraining buys: mIoU over its minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from comparison.report import NAMES
from comparison.trial import METHODS
from matplotlib.figure import Figure

from .style import BLUE, GREEN, MARKERS, ORANGE, PURPLE, RED, SKY, new_figure, spread_of

COLORS = dict(zip(METHODS, (BLUE, SKY, ORANGE, RED, GREEN, PURPLE), strict=True))


def draw(scores: Mapping[str, Mapping[float, Sequence[float]]], title: str) -> Figure:
    """Draw mIoU in percent by method and minutes, mean and standard deviation over seeds."""
    figure, axes = new_figure(1, 1, 3.4)
    panel = axes[0, 0]
    for method in sorted(scores, key=METHODS.index):
        by = scores[method]
        means, errors = [float(np.mean(values)) for values in by.values()], [spread_of(values) for values in by.values()]
        marker = MARKERS[METHODS.index(method)]
        panel.errorbar(list(by), means, errors, marker=marker, color=COLORS[method], capsize=3, label=NAMES[method])
    panel.set_xticks(sorted({minutes for by in scores.values() for minutes in by}))
    panel.set_xlabel("minutes of pretraining; from scratch, more minutes on the labels")
    panel.set_ylabel("mIoU, %")
    panel.set_title(title)
    panel.legend()
    return figure
