"""Normalised effective rank of the tokens behind every block: near 1 where all directions are used, near 0 after a collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import nn

from napari_affmae.engine.image_source import ArraySource
from napari_affmae.model.effective_rank import effective_rank
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.residual import Residual

from .sections import Section
from .style import BLUE, INK, MARKERS, ORANGE, new_figure


def draw(pair: Mapping[str, MaskedAutoencoder], shown: Sequence[Section]) -> Figure:
    """Draw the rank behind each block of the networks ``with`` and ``without``, mean and deviation over sections."""
    figure, axes = new_figure(1, 1, 3.4)
    panel = axes[0, 0]
    names: list[str] = []
    for (name, model), color, marker in zip(pair.items(), (BLUE, ORANGE), MARKERS, strict=False):
        ranks = [ranks_of(model, section.image) for section in shown]
        names = list(ranks[0])
        values = np.array([list(rank.values()) for rank in ranks])
        mean, spread = values.mean(0), values.std(0)
        panel.plot(range(len(names)), mean, marker=marker, color=color, label=f"{name} deep supervision")
        panel.fill_between(range(len(names)), mean - spread, mean + spread, color=color, alpha=0.25, linewidth=0)
    panel.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    panel.axvline(sum(not name.startswith("decoder") for name in names) - 0.5, color=INK, linewidth=0.8, linestyle=":")
    panel.set_ylabel("normalised effective rank")
    panel.set_ylim(0, None)
    panel.legend()
    return figure


@torch.inference_mode()
def ranks_of(model: MaskedAutoencoder, image: npt.NDArray[Any]) -> dict[str, float]:
    """Return the normalised effective rank of what each block of encoder and decoder puts out, nothing hidden."""
    source = ArraySource(image)
    normalised = source.normalised(model.card.normalisation or source.measure())
    pixels = torch.from_numpy(normalised.read(0, source.height, 0, source.width)).unsqueeze(0)
    found: dict[str, float] = {}
    blocks = {
        f"stage {level + 1}.{place + 1}": block
        for level, stage in enumerate(model.encoder.stages)
        for place, block in enumerate(stage.blocks)
    }

    def watch(name: str) -> Any:
        def hook(_block: nn.Module, _given: Any, output: Residual) -> None:
            found[name] = effective_rank(output.added()[0])[1]

        return hook

    hooks = [block.register_forward_hook(watch(name)) for name, block in blocks.items()]
    try:
        features = model.eval().features(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    decoder = {f"decoder {place + 1}": effective_rank(f[0])[1] for place, f in enumerate(features.decoder_features)}
    return {**found, **decoder}
