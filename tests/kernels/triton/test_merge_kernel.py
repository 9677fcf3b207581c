"""Token merge: output and all gradients, at sizes around a tile, with duplicates and all-token mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from affmae_kernels import token_merge

LEARNED = ("tokens", "scores", "weight", "bias", "norm_weight", "norm_bias")
TYPES = [torch.float32, torch.float16, torch.bfloat16]

# batch, tokens, survivors, channels, cluster size, neighbour clusters (None: all tokens)
SMALL = [(1, 1, 1, 3, 4, 1), (2, 33, 17, 20, 8, 3), (1, 65, 15, 70, 8, 4), (1, 31, 16, 16, 4, None)]
LARGE = [(4, 2048, 819, 96, 8, 8), (4, 819, 327, 192, 8, 8), (4, 327, 130, 384, 8, 8), (2, 1021, 401, 100, 5, 6)]


def case(make: Any, batch: int, tokens: int, survivors: int, dim: int, size: int, near: int | None) -> Any:
    draw = make["draw"]
    generator = torch.Generator().manual_seed(1)
    kept = [torch.randperm(tokens, generator=generator)[:survivors].sort().values for _ in range(batch)]
    given = {
        "tokens": draw(batch, tokens, dim, seed=1),
        "scores": draw(batch, tokens, seed=2).sigmoid(),
        "positions": make["places"](batch, tokens, 64),
        "survivors": torch.stack(kept),
        "clusters": make["clusters"](batch, tokens, size, near),
        "cluster_size": size,
        "weight": draw(4, 5, seed=3),
        "bias": draw(4, seed=4),
        "norm_weight": draw(4, seed=5),
        "norm_bias": draw(4, seed=6),
    }
    return token_merge, given, LEARNED, ("tokens",)


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


@pytest.mark.parametrize("near", [3, None])
@pytest.mark.parametrize("missing", ["images", "survivors"])
def test_nothing_to_merge(missing: str, near: int | None, make: Any, check: Any) -> None:
    operator, given, learned, features = case(make, 2, 33, 17, 20, 8, near)
    given["survivors"] = given["survivors"][:, :0]
    if missing == "images":
        per_image = [name for name in ("tokens", "scores", "positions", "survivors", "clusters") if given[name] is not None]
        given |= {name: given[name][:0] for name in per_image}
    check((operator, given, learned, features), torch.float32)


def test_tokens_that_are_not_contiguous(make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, given, _, _ = case(make, 2, 33, 17, 20, 8, 3)
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    moved = {name: v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for name, v in moved.items()}
    dense = operator(**moved)
    moved["tokens"] = moved["tokens"].transpose(1, 2).contiguous().transpose(1, 2)
    moved["scores"] = moved["scores"].t().contiguous().t()
    assert torch.equal(operator(**moved), dense)
