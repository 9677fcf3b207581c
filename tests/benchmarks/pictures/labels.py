"""What labels are worth: mIoU over the number of labelled images, dense and from strokes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from comparison.datasets import Paint
from comparison.groups import Given, Variant, name_of, ordered
from comparison.lines import Line
from comparison.trial import METHODS
from matplotlib.figure import Figure

from .style import COLORS, MARKERS, new_figure, spread_of

TITLES: dict[Paint, str] = {"dense": "every pixel labelled", "scribbles": "strokes over 1 % of the pixels"}

ASIDE = 0.03
"""Methods stand so far beside each other that bars do not hide bars."""


def draw(settings: Sequence[tuple[Line, Mapping[Variant, Mapping[Given, Sequence[float]]]]]) -> Figure:
    """Draw mIoU in percent, mean and standard deviation over seeds, of the budget with most trials: a panel for each kind."""
    budget, scores = max(settings, key=lambda found: sum(len(values) for by in found[1].values() for values in by.values()))
    givens = {given for by in scores.values() for given in by}
    paints = [paint for paint in TITLES if any(paint == given[0] for given in givens)]
    counts = sorted({count for _, count in givens}, key=lambda count: count or math.inf)
    figure, axes = new_figure(1, len(paints), 3.6, sharey=True)
    for panel, paint in zip(axes[0], paints, strict=True):
        for variant in ordered(scores):
            number = METHODS.index(variant[0])
            here = [(x, scores[variant].get((paint, count))) for x, count in enumerate(counts)]
            known = [(x, values) for x, values in here if values]
            panel.errorbar(
                [x + ASIDE * (number - len(METHODS) / 2) for x, _ in known],
                [float(np.mean(values)) for _, values in known],
                [spread_of(values) for _, values in known],
                marker=MARKERS[number],
                color=COLORS[number],
                capsize=3,
                label=name_of(variant),
            )
        panel.set_xticks(range(len(counts)), [str(count or "all") for count in counts])
        panel.set_xlabel("labelled images")
        panel.set_title(TITLES[paint])
    axes[0, 0].set_ylabel(f"mIoU, %, {budget['dataset']}")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")
    return figure
