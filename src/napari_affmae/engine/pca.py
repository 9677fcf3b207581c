"""Features as colours: the three main directions in which they vary."""

from __future__ import annotations

import torch
from torch import Tensor

_PERCENTILES = (0.02, 0.98)
_MOST_ROWS = 65_536
"""Rows that directions and scales are measured on."""


def pca_colors(features: Tensor) -> Tensor:
    """Map features ``[n, D]`` to colours float32 ``[n, 3]`` in 0..1.

    Each colour channel is one principal component, scaled so that the 2nd and 98th percentile become 0 and 1. A component has
    no sign of its own; its largest weight is made positive, so that colours do not flip from one call to the next. Missing
    components (fewer than three directions) are 0.5.
    """
    values = features.float()
    step = -(-len(values) // _MOST_ROWS)
    sample = values[::step]
    mean = sample.mean(dim=0)
    centred = (sample - mean).double()
    # The covariance is small whatever the number of tokens; its eigenvectors are the components, least first.
    variance, directions = torch.linalg.eigh(centred.T @ centred)
    colors = torch.full((len(values), 3), 0.5, device=features.device)
    floor = 1e-10 * max(float(variance[-1]), 1e-12)
    for channel in range(min(3, values.shape[1])):
        if variance[-1 - channel] <= floor:
            break
        direction = directions[:, -1 - channel]
        direction = (direction * direction[direction.abs().argmax()].sign()).float()
        component = (values - mean) @ direction
        low, high = torch.quantile(component[::step], torch.tensor(_PERCENTILES, device=features.device))
        colors[:, channel] = ((component - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return colors
