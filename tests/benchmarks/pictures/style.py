"""How all figures look: legible at the width of a README, on light and dark pages, and without telling colours apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Colours that stay apart for the colour-blind. Source: M. Okabe and K. Ito, "Color universal design" (2008)."""

COLORS = (BLUE, SKY, ORANGE, RED, GREEN, PURPLE)
"""One per method, in the order of tables."""

MARKERS = "osD^vP"
"""One per line, so that colour is never the only difference."""

INK = "#7a828c"
"""Text and axes: a grey with a contrast of about 4 on white and on GitHub's dark page; figures have no ground of their own."""

WIDTH = 8.8
"""Inches: a README is about 880 pixels wide, so that a point is a point and a half on the screen."""

DPI = 200

SETTINGS = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "savefig.transparent": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def new_figure(rows: int, columns: int, height: float, **more: Any) -> tuple[Figure, npt.NDArray[Any]]:
    """Return a figure as wide as a README and ``height`` inches high, and its axes ``[rows, columns]``."""
    matplotlib.rcParams.update(SETTINGS)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **more)
    return figure, axes


def picture(axes: Axes, image: npt.NDArray[Any], title: str) -> None:
    """Show grey values 0..255 ``[H, W]`` or colours 0..1 ``[H, W, 3]`` without axes, pixel by pixel."""
    axes.imshow(image, cmap="gray", interpolation="nearest")
    axes.set_title(title, pad=4)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def scale_bar(axes: Axes, side: int, nanometres: float | None) -> None:
    """Draw a bar of a round length, about a quarter of an image ``side`` pixels wide; nothing if the pixel size is unknown."""
    if nanometres is None:
        return
    length = round_length(0.28 * side * nanometres)
    pixels = length / nanometres
    left, bottom = 0.05 * side, 0.94 * side
    label = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    for width, color in ((6.0, "black"), (3.0, "white")):
        axes.plot([left, left + pixels], [bottom, bottom], color=color, linewidth=width, solid_capstyle="butt", zorder=5)
    # Its own ground: an image has light and dark places.
    ground = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.5}
    axes.text(left + pixels / 2, bottom - 0.03 * side, label, color="white", fontsize=9, ha="center", va="bottom", bbox=ground)


def round_length(most: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above ``most``."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= most))


def plain_ticks(axis: Axis, subs: Sequence[int] = (1, 2, 5)) -> None:
    """Write the ticks of a logarithmic axis as numbers, at these multiples of each power of ten."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def spread_of(values: Sequence[float]) -> float:
    """Return the standard deviation, 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
