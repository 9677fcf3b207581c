"""Layers that are one here and several in the paper's checkpoints and in model files of earlier versions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

JOINED = (
    (re.compile(r"\.attention\.q\."), (".attention.kv.",), ".attention.qkv."),
    (
        re.compile(r"\.self_attention\.sampling_offsets\."),
        (".self_attention.mixing.", ".self_attention.value."),
        ".self_attention.sampling.",
    ),
    (re.compile(r"\.cross_attention\.sampling_offsets\."), (".cross_attention.mixing.",), ".cross_attention.sampling."),
)
"""Layers that read the same tokens are one layer here: the name of the first, those of the others, and that of the whole."""


def join_layers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the rows of layers that are one layer here below each other."""
    joined = dict(state)
    for first, others, whole in JOINED:
        for name in [name for name in joined if first.search(name)]:
            parts = [first.sub(other, name) for other in others]
            if all(part in joined for part in parts):
                joined[first.sub(whole, name)] = torch.cat([joined.pop(name), *(joined.pop(part) for part in parts)])
    return joined
