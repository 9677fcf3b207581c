"""What deep supervision does to features: their three main directions as colours, with and without it."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from napari_affmae.engine.inspect import inspect
from napari_affmae.model.mae import MaskedAutoencoder

from .sections import Section
from .style import new_figure, picture, scale_bar

COLUMNS = {"stage 3": 2, "stage 4 (deepest)": 3}


def draw(pair: Mapping[str, MaskedAutoencoder], section: Section) -> Figure:
    """Draw the deep stages and the decoder of each network on a section, one row each; keys are ``with`` and ``without``."""
    figure, axes = new_figure(len(pair), 2 + len(COLUMNS), 4.6)
    for number, (row, (name, model)) in enumerate(zip(axes, pair.items(), strict=True)):
        look, top = inspect(model, section.image), number == 0
        picture(row[0], section.image, section.name if top else "")
        scale_bar(row[0], section.image.shape[0], section.nanometres)
        row[0].set_ylabel(f"{name} deep supervision")
        for panel, (title, stage) in zip(row[1:], COLUMNS.items(), strict=False):
            picture(panel, look.stages[stage].pca, title if top else "")
        picture(row[-1], look.pca, "decoder" if top else "")
    return figure
