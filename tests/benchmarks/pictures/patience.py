"""What more pretraining buys: mIoU over its minutes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from comparison.groups import Variant, name_of, ordered
from comparison.lines import Line
from comparison.trial import METHODS
from matplotlib.figure import Figure

from .style import COLORS, MARKERS, new_figure, spread_of

DASHES = ("-", (0, (3, 2)), (0, (1, 2)))
FAINT = 0.55
"""Of settings that are no longer the default."""

PANEL = ("dataset", "paint", "part", "finetune_minutes")


def draw(settings: Sequence[tuple[Line, dict[Variant, dict[float, list[float]]]]]) -> Figure:
    """Draw mIoU in percent by minutes, mean and standard deviation over seeds: a dash for each number of labelled images."""
    keys = sorted({tuple(setting[name] for name in PANEL) for setting, _ in settings}, key=lambda key: (key[:3], -key[3]))
    figure, axes = new_figure(1, len(keys), 4.6, sharey=True)
    for panel, key in zip(axes[0], keys, strict=True):
        here = [found for found in settings if tuple(found[0][name] for name in PANEL) == key]
        here.sort(key=lambda found: found[0]["labels"] or np.inf, reverse=True)
        for number, (setting, scores) in enumerate(here):
            for variant in ordered(scores):
                by, place = scores[variant], METHODS.index(variant[0])
                panel.errorbar(
                    list(by),
                    [float(np.mean(values)) for values in by.values()],
                    [spread_of(values) for values in by.values()],
                    marker=MARKERS[place],
                    color=COLORS[place],
                    linestyle=DASHES[number % len(DASHES)],
                    capsize=3,
                    alpha=FAINT if variant[1] else 1,
                    label=f"{name_of(variant)}, {setting['labels'] or 'all'} labelled",
                )
        panel.set_xticks(sorted({minutes for _, scores in here for by in scores.values() for minutes in by}))
        panel.set_xlabel("minutes of pretraining")
        dataset, paint, part, minutes = key
        panel.set_title(f"{dataset}, {paint}, {part}, {minutes:g} min on labels")
    known = {name: handle for panel in axes[0] for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(list(known.values()), list(known), loc="outside lower center", handlelength=4)
    axes[0, 0].set_ylabel("mIoU, %")
    return figure
