"""What a segmentation costs, and what it is worth: operations by the side of the image, and mIoU over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from comparison.groups import by_side
from comparison.lines import Line
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_affmae.model_config import PresetName

from .counting import SIDES, gigaflops
from .style import BLUE, INK, MARKERS, ORANGE, new_figure, plain_ticks, spread_of

WIDE = 100
"""Between ends this far apart, a tick for each power of ten has room, and more have not."""

METHODS = {"affmae": ("AFFMAE", BLUE), "vit-mae": ("ViT-MAE", ORANGE)}


def draw(preset: PresetName, lines: Sequence[Line]) -> Figure:
    """Draw operations over sides; and mIoU over operations, where there are lines of trials with tiles of several sides."""
    counts = {method: gigaflops(method, preset) for method in METHODS}
    scores = scores_by_side([line for line in lines if line["preset"] == preset])
    figure, axes = new_figure(1, 2 if scores else 1, 3.6)
    panel = axes[0, 0]
    for (method, (name, color)), marker in zip(METHODS.items(), MARKERS, strict=False):
        panel.plot(SIDES, list(counts[method].values()), marker=marker, color=color, label=f"{name} {preset}")
    for side in SIDES:
        ours, theirs = counts["affmae"][side], counts["vit-mae"][side]
        panel.annotate(
            f"{theirs / ours:.1f} ×", (side, (ours * theirs) ** 0.5), ha="center", va="center", color=INK, fontsize=9.5
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    plain_ticks(panel.yaxis)
    panel.set_xticks(SIDES, [f"{side}²" for side in SIDES])
    panel.minorticks_off()
    panel.set_xlim(SIDES[0] / 1.25, SIDES[-1] * 1.25)
    panel.set_xlabel("pixels of the image")
    panel.set_ylabel("GFLOP to segment it")
    panel.legend(loc="upper left")
    if scores:
        _scores(axes[0, 1], counts, scores)
    return figure


def scores_by_side(lines: Sequence[Line]) -> dict[str, dict[int, list[float]]]:
    """Return mIoU in percent by method and side of the tiles, of the setting with most sides; nothing if none has several."""
    settings = [
        scores for _, scores in by_side([line for line in lines if line["method"] in METHODS and line["tile"] in SIDES])
    ]
    most = max(settings, key=lambda scores: sum(map(len, scores.values())), default={})
    return {method: by for (method, _), by in most.items()}


def _scores(panel: Axes, counts: dict[str, dict[int, float]], scores: dict[str, dict[int, list[float]]]) -> None:
    for (method, (name, color)), marker in zip(METHODS.items(), MARKERS, strict=False):
        if method not in scores:
            continue
        sides = sorted(scores[method])
        places = [counts[method][side] for side in sides]
        means = [float(np.mean(scores[method][side])) for side in sides]
        errors = [spread_of(scores[method][side]) for side in sides]
        panel.errorbar(places, means, errors, marker=marker, color=color, capsize=3, label=name)
        for side, place, mean in zip(sides, places, means, strict=True):
            # Ours above and the other ones beside: at equal operations they lie over one another.
            shift, where = ((0, 14), "center") if method == "affmae" else ((-9, -5), "right")
            panel.annotate(f"{side}²", (place, mean), shift, textcoords="offset points", color=INK, fontsize=9, ha=where)
    panel.set_xscale("log")
    panel.margins(x=0.15, y=0.12)
    first, last = panel.get_xlim()
    plain_ticks(panel.xaxis, subs=(1, 2, 5) if last < WIDE * first else (1,))
    panel.set_xlabel("GFLOP to segment a tile")
    panel.set_ylabel("mIoU, %")
    panel.legend()
