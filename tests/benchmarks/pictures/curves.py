"""Loss curves of pretraining runs, from the logs in their folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from napari_affmae.engine.run_folder import RunFolder

from .style import BLUE, GREEN, ORANGE, PURPLE, RED, new_figure

HEADS = {"res2": "main head", "res4": "auxiliary head on block 2", "res5": "auxiliary head on block 1"}
"""By the decoder block that a head reads; block 1 has seen the deepest stage alone, block 4 all."""
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE)
STYLES = ("-", "--", ":")
SMOOTHED = 0.02
"""Part of a run that a point of its curve is the mean of."""


def draw(runs: Sequence[Path]) -> Figure:
    """Draw the loss of each head over the steps of each run; a run has a colour, a head a kind of line."""
    figure, axes = new_figure(1, 1, 3.4)
    panel = axes[0, 0]
    for run, color in zip(runs, COLORS, strict=False):
        log = read_log(run)
        for (head, name), style in zip(HEADS.items(), STYLES, strict=True):
            label = name if len(runs) == 1 else f"{run.name}: {name}"
            panel.plot(log["step"], smoothed(log[head]), style, color=color, label=label)
    panel.set_xlabel("steps")
    panel.set_ylabel("mean squared error, hidden patches")
    panel.legend()
    return figure


def read_log(run: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Return the columns of a pretraining run's log."""
    lines = [json.loads(text) for text in RunFolder(run).log.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if all(head in line for head in HEADS)]
    if not lines:
        raise ValueError(f"{run} has no log of a pretraining run")
    return {name: np.array([line[name] for line in lines], float) for name in ("step", *HEADS)}


def smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of the values around each, over a fiftieth of them; fewer at both ends."""
    reach = max(0, round(SMOOTHED * len(values) / 2))
    total = np.concatenate(([0.0], np.cumsum(values)))
    place = np.arange(len(values))
    low, high = np.maximum(place - reach, 0), np.minimum(place + reach + 1, len(values))
    return (total[high] - total[low]) / (high - low)
