"""What several layers share changes nothing: handed over or computed inside, results and gradients are the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from affmae_kernels import cluster_attention, cluster_tiles, deformable_attention, site_index
from affmae_kernels.search import index
from affmae_kernels.tiles.packing import fitting, packing_limit
from torch import Tensor


def both(operator: Any, given: tuple[Any, ...], prepared: Any) -> tuple[list[Tensor], list[Tensor]]:
    results = []
    for extra in ((), (prepared,)):
        leaves = [value for value in given if isinstance(value, Tensor) and value.requires_grad]
        output = operator(*given, *extra)
        grads = torch.autograd.grad(
            output, leaves, torch.ones_like(output) * torch.arange(output.shape[-1], device=output.device)
        )
        results.append([output.detach(), *grads])
    return results[0], results[1]


@pytest.mark.parametrize(("tokens", "size", "near"), [(33, 8, 3), (41, 5, 4), (70, 3, 6), (12, 4, 16)])
def test_tiles(tokens: int, size: int, near: int, make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    heads = [make["draw"](1, tokens, 2, 16, seed=i).float().to(device).requires_grad_() for i in range(3)]
    place = make["places"](1, tokens, 9).float().to(device)
    listed = make["clusters"](1, tokens, size, near).to(device)
    learned = [make["draw"](*shape, seed=5).float().to(device) for shape in ((2, 5), (2,), (2, 16), (2, 16))]
    prepared = cluster_tiles(listed, size, heads[0])
    assert prepared is not None
    for alone, shared in zip(*both(cluster_attention, (*heads, place, listed, size, *learned), prepared), strict=True):
        assert torch.equal(alone, shared)


def test_counts_that_no_integer_holds_are_left_to_pytorch(
    make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFFMAE_KERNELS", raising=False)
    listed = torch.zeros(1, 40, 3, dtype=torch.int64, device=device)
    assert fitting(1, 3) is None
    assert "3 clusters of 1 per token" in str(packing_limit(listed, 1))
    assert cluster_tiles(listed, 1, torch.zeros(1, device=device)) is None


def test_index(make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    monkeypatch.setattr(index, "SPARSE", 0)
    # The sum of atomics has no fixed order.
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    value = make["draw"](1, 40, 2, 16, seed=1).float().to(device).requires_grad_()
    place = make["places"](1, 40, 9).float().to(device)
    points = (5 * make["draw"](1, 7, 2, 4, 2, seed=2) + 4).float().to(device).requires_grad_()
    mixing = make["draw"](1, 7, 2, 4, seed=3).softmax(-1).float().to(device).requires_grad_()
    given = (value, place, points, mixing, torch.ones((), device=device), (9, 9))
    prepared = site_index(place, 4, (9, 9))
    assert prepared is not None
    for alone, shared in zip(*both(deformable_attention, given, prepared), strict=True):
        assert torch.equal(alone, shared)


def test_preparations_for_something_else_are_refused(make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    monkeypatch.setattr(index, "SPARSE", 0)
    heads = [make["draw"](1, 70, 2, 16, seed=i).float().to(device) for i in range(3)]
    place = make["places"](1, 70, 9).float().to(device)
    learned = [make["draw"](*shape, seed=5).float().to(device) for shape in ((2, 5), (2,), (2, 16), (2, 16))]
    few = cluster_tiles(make["clusters"](1, 30, 8, 3).to(device), 8, heads[0])
    listed = make["clusters"](1, 70, 8, 3).to(device)
    with pytest.raises(ValueError, match=r"tiles\.counts"):
        cluster_attention(*heads, place, listed, 8, *learned, few)
    with pytest.raises(ValueError, match="no clusters"):
        cluster_attention(*heads, place, None, 8, *learned, few)
    points = make["draw"](1, 7, 2, 4, 2, seed=2).float().to(device)
    mixing = make["draw"](1, 7, 2, 4, seed=3).softmax(-1).float().to(device)
    small = site_index(place[:, :20] % 5, 4, (5, 5))
    with pytest.raises(ValueError, match=r"index\.cells"):
        deformable_attention(heads[0], place, points, mixing, torch.ones((), device=device), (9, 9), small)
    with pytest.raises(ValueError, match="no grid"):
        deformable_attention(heads[0], place, points, mixing, torch.ones((), device=device), None, small)


def test_tiles_that_meet_are_listed_by_rows_and_by_columns(
    make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tiles than one step of the kernel looks at, and neighbours in few places, so that whole steps meet nothing."""
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    tokens, size, tile = 1100, 8, 32
    own = torch.arange(tokens) // size
    listed = torch.stack([own, (own + 1) % 137, 137 - own], dim=1).clamp(max=137)[None].to(device)
    made = cluster_tiles(listed, size, torch.zeros(1, device=device))
    assert made is not None
    count = -(-tokens // tile)
    meets = torch.zeros(count, count, dtype=torch.bool)
    for query in range(tokens):
        meets[query // tile, listed[0, query].cpu() * size // tile] = True
    for row in range(count):
        expected = meets[row].nonzero().flatten().tolist()
        assert made.lists[0, row, : made.counts[0, row]].tolist() == expected
        by_column = meets[:, row].nonzero().flatten().tolist()
        assert made.key_lists[0, row, : made.key_counts[0, row]].tolist() == by_column
        slots = made.key_slots[0, row, : made.key_counts[0, row]].tolist()
        assert [int(made.lists[0, query, slot]) for query, slot in zip(by_column, slots, strict=True)] == [row] * len(slots)
