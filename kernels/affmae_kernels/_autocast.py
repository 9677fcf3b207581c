"""One rule of automatic mixed precision for all operators: features take autocast's dtype, everything else stays as it is.

Positions, scores, biases and mixing weights are cheap to keep in float32 and dear to lose bits of; sums are always float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_autocast(*features: Tensor) -> tuple[Tensor, ...]:
    """Return floating features in the dtype of the surrounding autocast region, as they are outside one and in float64."""
    kind = features[0].device.type
    if not torch.is_autocast_enabled(kind):
        return features
    dtype = torch.get_autocast_dtype(kind)
    return tuple(feature if feature.dtype == torch.float64 else feature.to(dtype) for feature in features)
