"""Kernels that are only built compute nothing, but what looks up their results must not fall off a table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from affmae_kernels import CompileAhead, nearest


@pytest.mark.parametrize(("k", "grid"), [(4, (9, 9)), (8, None)])
def test_indices_are_valid(
    k: int, grid: tuple[int, int] | None, make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    monkeypatch.setattr(CompileAhead, "submit", lambda *_: None)  # the interpreter builds nothing
    sites = make["places"](1, 40, 9).float().to(device)
    with CompileAhead():
        found = nearest(sites, sites, k, grid)
    assert 0 <= int(found.min()) <= int(found.max()) < 40
    assert torch.gather(sites, 1, found[..., :1].expand(-1, -1, 2)).shape == sites.shape
