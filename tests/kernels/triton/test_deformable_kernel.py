"""Deformable attention: output and all gradients, with few tokens, points on tokens, and both ways of adding up values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from affmae_kernels import deformable_attention

LEARNED = ("value", "points", "mixing", "power")
TYPES = [torch.float32, torch.float16, torch.bfloat16]

# batch, tokens, queries, heads, channels, side of the grid
SMALL = [(1, 1, 1, 1, 3, 5), (2, 3, 5, 2, 8, 5), (2, 10, 17, 2, 12, 9), (1, 64, 7, 1, 16, 9)]
LARGE = [(2, 2048, 2047, 6, 64, 64), (2, 819, 2048, 6, 64, 64), (2, 130, 2048, 6, 64, 64), (2, 327, 1000, 3, 24, 64)]


@pytest.fixture(params=["at once", "in order"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.use_deterministic_algorithms(request.param == "in order")
    yield
    torch.use_deterministic_algorithms(False)


def case(make: Any, batch: int, tokens: int, queries: int, heads: int, dim: int, side: int) -> Any:
    draw = make["draw"]
    # In float32 from the start, so that all precisions find the same neighbours.
    points = (draw(batch, queries, heads, 4, 2, seed=2) * side / 3 + side / 2).float().double()
    points[:, :, :, 0] = points[:, :, :, 0].round()  # on tokens and holes of the grid
    given = {
        "value": draw(batch, tokens, heads, dim, seed=1),
        "positions": make["places"](batch, tokens, side),
        "points": points,
        "mixing": draw(batch, queries, heads, 4, seed=3).softmax(-1),
        "power": torch.tensor(1.3, dtype=torch.float64),
        "grid": (side, side),
    }
    return deformable_attention, given, LEARNED, ("value",)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_small(shape: Any, dtype: torch.dtype, make: Any, check: Any) -> None:
    check(case(make, *shape), dtype)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large(shape: Any, dtype: torch.dtype, make: Any, check: Any, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("too large for the interpreter")
    check(case(make, *shape), dtype)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("missing", ["images", "queries"])
def test_nothing_to_sample(missing: str, make: Any, check: Any) -> None:
    operator, given, learned, features = case(make, 2, 10, 17, 2, 12, 9)
    if missing == "images":
        given |= {name: given[name][:0] for name in ("value", "positions", "points", "mixing")}
    else:
        given |= {name: given[name][:, :0] for name in ("points", "mixing")}
    check((operator, given, learned, features), torch.float32)


def test_power_below_its_floor_passes_no_gradient(make: Any, device: torch.device) -> None:
    operator, given, learned, features = case(make, 1, 10, 3, 1, 4, 9)
    given["power"] = torch.tensor(-1.0, dtype=torch.float64)
    results = make["run"]((operator, given, learned, features), "triton", torch.float32, torch.float32, device)
    assert results["power"] == 0


def test_in_order_two_runs_are_equal_bit_for_bit(make: Any, device: torch.device) -> None:
    given = case(make, 2, 10, 17, 2, 12, 9)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (make["run"](given, "triton", torch.float32, torch.float32, device) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[name], second[name]) for name in first)
