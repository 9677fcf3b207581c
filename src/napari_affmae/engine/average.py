"""The moving average of a network's weights over its last steps, which often segments better than the last weights do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of all parameters, on their device.

    Parameters
    ----------
    model
        The network; its parameters stay where they are, since recorded steps know their places.
    decay
        Part of the average that each step keeps, 0 to 1; less in the first steps, so that it does not remember the start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._names = [name for name, _ in model.named_parameters()]
        self._weights = [parameter.detach() for parameter in model.parameters()]
        self._mean = [weight.clone() for weight in self._weights]
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        torch._foreach_lerp_(self._mean, self._weights, 1 - min(self._decay, step / (step + 9)))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Put the average into the network for as long as the context lasts; what it had comes back bit by bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """Return the average by the names of the parameters."""
        return dict(zip(self._names, self._mean, strict=True))

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned; an empty one starts from the weights as they are."""
        for name, mean, weight in zip(self._names, self._mean, self._weights, strict=True):
            mean.copy_(state.get(name, weight))

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, mean in zip(self._weights, self._mean, strict=True):
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)
