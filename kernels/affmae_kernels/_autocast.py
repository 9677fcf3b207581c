"""One rule of automatic mixed precision for all operators: features take autocast's dtype, everything else stays as it is.

Positions, scores, biases and mixing weights are cheap to keep in float32 and dear to lose bits of; sums are always float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def autocast_dtype(feature: Tensor) -> torch.dtype:
    """Return the dtype of the surrounding autocast region; outside of one, and in float64, the tensor's own."""
    kind = feature.device.type
    if feature.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return feature.dtype
    return torch.get_autocast_dtype(kind)


def to_autocast(*features: Tensor) -> tuple[Tensor, ...]:
    """Return floating features in the dtype that :func:`autocast_dtype` names for them."""
    return tuple(feature.to(autocast_dtype(feature)) for feature in features)
