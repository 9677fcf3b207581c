"""Half-precision copies of all weights, made in one go: one by one they are some hundred tiny casts in every step."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

ALIGNED = 64
"""Copies begin at multiples of so many numbers, as matrix products like it."""

_copies: ContextVar[dict[int, Tensor] | None] = ContextVar("affmae_kernels_narrow_copies", default=None)


class NarrowCopies(AbstractContextManager["NarrowCopies"]):
    """Inside, linear layers read these copies instead of casting their weights each on its own; results are the same bits.

    Parameters
    ----------
    weights
        Parameters on one device; they must not change inside.
    dtype
        Of the copies: that of the products.
    """

    def __init__(self, weights: Iterable[Tensor], dtype: torch.dtype) -> None:
        self._weights = [weight for weight in weights if weight.is_floating_point() and weight.dtype != dtype]
        self._dtype = dtype

    def __enter__(self) -> Self:
        sizes = [-(-weight.numel() // ALIGNED) * ALIGNED for weight in self._weights]
        copies: list[Tensor] = []
        if self._weights:
            room = torch.empty(sum(sizes), dtype=self._dtype, device=self._weights[0].device)
            for part, weight in zip(torch.split(room, sizes), self._weights, strict=True):
                copies.append(part[: weight.numel()].view(weight.shape))
            with torch.no_grad():
                torch._foreach_copy_(copies, self._weights)
        self._token = _copies.set({id(weight): copy for weight, copy in zip(self._weights, copies, strict=True)})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _copies.reset(self._token)


def narrowed(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight in the dtype of a product, without its history: the copy, where there is one."""
    copies = _copies.get()
    copy = None if copies is None else copies.get(id(weight))
    return copy if copy is not None and copy.dtype == dtype else weight.detach().to(dtype)
