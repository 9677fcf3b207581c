"""Cluster attention: output and all gradients, at sizes around a tile, with short clusters, duplicates and all-token mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from affmae_kernels import cluster_attention

LEARNED = ("query", "key", "value", "bias_weight", "bias", "blank_key", "blank_value")
HALF = ("query", "key", "value")
TYPES = [torch.float32, torch.float16, torch.bfloat16]

# batch, tokens, heads, channels, cluster size, neighbour clusters (None: all tokens)
SMALL = [(1, 1, 1, 2, 4, 1), (2, 31, 2, 16, 8, 3), (1, 33, 1, 12, 5, 2), (1, 67, 1, 16, 8, 4), (1, 32, 2, 8, 4, None)]
LARGE = [(4, 819, 6, 32, 8, 8), (2, 1021, 2, 64, 5, 6), (2, 2048, 3, 32, 8, 8), (3, 127, 3, 24, 8, 8), (4, 130, 16, 32, 8, 8)]


def case(make: Any, batch: int, tokens: int, heads: int, dim: int, size: int, near: int | None) -> Any:
    draw = make["draw"]
    given = {
        "query": draw(batch, tokens, heads, dim, seed=1),
        "key": draw(batch, tokens, heads, dim, seed=2),
        "value": draw(batch, tokens, heads, dim, seed=3),
        "positions": make["places"](batch, tokens, 64),
        "clusters": make["clusters"](batch, tokens, size, near),
        "cluster_size": size,
        "bias_weight": draw(heads, 5, seed=4) * 0.1,
        "bias": draw(heads, seed=5),
        "blank_key": draw(heads, dim, seed=6),
        "blank_value": draw(heads, dim, seed=7),
    }
    return cluster_attention, given, LEARNED, HALF


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_small(shape: Any, dtype: torch.dtype, make: Any, check: Any) -> None:
    check(case(make, *shape), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large(shape: Any, dtype: torch.dtype, make: Any, check: Any, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("too large for the interpreter")
    check(case(make, *shape), dtype)


def test_keys_and_values_that_share_memory(make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the model gives them: two halves of one tensor, so neither is contiguous."""
    operator, given, _, _ = case(make, 2, 33, 2, 16, 8, 3)
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    moved = {name: v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for name, v in moved.items()}
    apart = operator(**moved)
    both = torch.cat((moved["key"], moved["value"]), dim=-1)
    moved["key"], moved["value"] = both.split(16, dim=-1)
    moved["query"] = moved["query"].transpose(1, 2).contiguous().transpose(1, 2)
    moved["positions"] = moved["positions"].repeat_interleave(2, -1)[..., ::2]
    assert torch.equal(operator(**moved), apart)


def test_logits_of_ten_thousand(make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, given, learned, features = case(make, 1, 33, 1, 16, 8, 3)
    given["query"] = given["query"] * 1e4
    results = make["run"]((operator, given, learned, features), "triton", torch.float32, torch.float32, device)
    assert all(value.isfinite().all() for value in results.values())


def test_two_runs_are_equal_bit_for_bit(make: Any, device: torch.device) -> None:
    given = case(make, 2, 67, 1, 16, 8, 3)
    first, second = (make["run"](given, "triton", torch.float32, torch.float32, device) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
