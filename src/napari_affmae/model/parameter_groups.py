"""Parameters by depth, for learning rates that fall towards the input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from ..model_config import STAGES
from .network import Network


@dataclass(frozen=True)
class DepthGroup:
    """Parameters of one depth: 0 patch embedding, 1 to 4 encoder stages, 5 decoder, 6 heads."""

    name: str
    depth: int
    parameters: tuple[nn.Parameter, ...]


def depth_groups(network: Network) -> list[DepthGroup]:
    """Return all parameters of a network, each once, grouped from input to output."""
    groups: list[tuple[str, list[nn.Module]]] = [("patch embedding", [network.patch_embedding])]
    groups += [(f"stage {i + 1}", [network.encoder.stages[i], network.encoder.norms[i]]) for i in range(STAGES)]
    groups += [("decoder", [network.decoder]), ("heads", [network.heads])]
    return [DepthGroup(name, depth, _parameters(modules)) for depth, (name, modules) in enumerate(groups)]


def _parameters(modules: Iterable[nn.Module]) -> tuple[nn.Parameter, ...]:
    return tuple(parameter for module in modules for parameter in module.parameters())
