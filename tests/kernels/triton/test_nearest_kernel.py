"""The search kernels find what a full table of distances finds, ties included, in holes and outside the grid too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from affmae_kernels.search import index
from affmae_kernels.search.reference import nearest_reference
from torch import Tensor

triton_kernels = pytest.importorskip("affmae_kernels.search.triton_kernels")


def occupied(grid: tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """Two images: a solid block, which leaves a large hole, and cells anywhere."""
    height, width = grid
    ids = torch.stack((torch.arange(height * width)[-count:], torch.randperm(height * width, generator=generator)[:count]))
    return torch.stack((ids % width, ids // width), dim=-1).float()


def some_points(grid: tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """Points inside and around the grid: anywhere, on cells, and half way between cells, where ties are."""
    height, width = grid
    anywhere = torch.rand(2, count, 2, generator=generator) * torch.tensor([width + 12.0, height + 12.0]) - 6
    on_cells = torch.randint(-3, max(grid) + 3, (2, count, 2), generator=generator).float()
    between = torch.randint(-6, 2 * max(grid), (2, count, 2), generator=generator) / 2
    return torch.cat((anywhere, on_cells, between), dim=1)


@pytest.mark.parametrize(
    ("grid", "part", "k"),
    [((1, 1), 1.0, 1), ((1, 7), 0.5, 3), ((5, 5), 0.5, 2), ((5, 4), 1.0, 4), ((7, 9), 0.5, 1), ((9, 6), 0.15, 4)],
)
def test_grid(grid: tuple[int, int], part: float, k: int, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SPARSE", 0)  # always the windows
    generator = torch.Generator().manual_seed(0)
    sites = occupied(grid, max(1, int(part * grid[0] * grid[1])), generator).to(device)
    points = some_points(grid, 20, generator).to(device)
    k = min(k, sites.shape[1])
    assert torch.equal(triton_kernels.search(points, sites, k, grid).long(), nearest_reference(points, sites, k))


@pytest.mark.parametrize("listed", [2, 48])
def test_lists_of_cells(listed: int, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a grid, at its border, in a hole; with lists long enough, and with such that are too short everywhere."""
    monkeypatch.setattr(index, "SPARSE", 0)
    monkeypatch.setattr(index, "LISTED", listed)
    generator = torch.Generator().manual_seed(3)
    sites = occupied((11, 10), 55, generator).to(device)
    points = some_points((11, 10), 40, generator).to(device)
    assert torch.equal(triton_kernels.search(points, sites, 4, (11, 10)).long(), nearest_reference(points, sites, 4))


def test_points_far_outside_the_grid(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SPARSE", 0)
    sites = occupied((5, 5), 9, torch.Generator().manual_seed(0)).to(device)
    points = torch.tensor([[1e4, 2.0], [-3e6, 5.0], [1e15, -1e15]], device=device).expand(2, -1, -1)
    assert torch.equal(triton_kernels.search(points, sites, 4, (5, 5)).long(), nearest_reference(points, sites, 4))


@pytest.mark.parametrize(("points", "sites", "k"), [(1, 1, 1), (7, 3, 2), (65, 29, 8), (63, 8, 8), (64, 13, 5)])
def test_all_sites(points: int, sites: int, k: int, device: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    at = torch.randint(0, 12, (2, points, 2), generator=generator).float().to(device)
    there = torch.randint(0, 12, (2, sites, 2), generator=generator).float().to(device)  # many ties, and duplicate sites
    assert torch.equal(triton_kernels.search(at, there, k, None).long(), nearest_reference(at, there, k))


@pytest.mark.parametrize("grid", [None, (5, 5)])
def test_nan_names_sites_that_exist(grid: tuple[int, int] | None, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A diverged network asks for NaN; it must not read outside the tensors."""
    monkeypatch.setattr(index, "SPARSE", 0)
    sites = occupied((5, 5), 15, torch.Generator().manual_seed(0)).to(device)
    found = triton_kernels.search(torch.full((2, 5, 2), torch.nan, device=device), sites, 4, grid)
    assert found.min() >= 0
    assert found.max() < 15


@pytest.mark.parametrize(("n", "grid"), [(2048, (64, 64)), (819, (64, 64)), (327, (64, 64)), (130, (64, 64)), (90, (128, 96))])
def test_large(n: int, grid: tuple[int, int], device: Any) -> None:
    if device.type != "cuda":
        pytest.skip("too large for the interpreter")
    generator = torch.Generator().manual_seed(2)
    sites = occupied(grid, n, generator).to(device)
    points = some_points(grid, 2000, generator).to(device)
    assert torch.equal(triton_kernels.search(points, sites, 4, grid).long(), nearest_reference(points, sites, 4))


def test_every_cell_of_a_ring_is_looked_at(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without lists, a point in the middle of 7 × 7 cells finds its nearest site wherever that is on the border."""
    monkeypatch.setattr(index, "SPARSE", 0)
    monkeypatch.setattr(index, "LISTED", 1)
    border = [(x, y) for x in range(7) for y in range(7) if max(abs(x - 3), abs(y - 3)) == 3 and (x, y) != (6, 6)]
    cells = torch.full((len(border), 49), -1, dtype=torch.int32)
    cells[torch.arange(len(border)), [7 * y + x for x, y in border]] = 0
    cells[:, 48] = 1  # a corner, not nearer than any of them
    none = torch.zeros(len(border), 49, dtype=torch.int32, device=device)
    empty = index.SiteIndex(cells.to(device), none.unsqueeze(-1), none, none.float())
    sites = torch.tensor([[place, (6, 6)] for place in border], dtype=torch.float32, device=device)
    points = torch.full((len(border), 1, 2), 3.0, device=device)
    found = triton_kernels.search(points, sites, 1, (7, 7), known=empty)
    assert found.flatten().tolist() == [0] * len(border)
