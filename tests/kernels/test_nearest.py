"""The search finds what a full table of distances finds, ties included, at awkward sizes and places."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from affmae_kernels import nearest
from affmae_kernels.search.recorded import nearest_recorded
from affmae_kernels.search.reference import nearest_reference
from affmae_kernels.search.windows import nearest_brute_force, nearest_on_grid
from torch import Tensor


def occupied(batch: int, grid: tuple[int, int], count: int, generator: torch.Generator) -> Tensor:
    """Different cells of a grid in random order; image 0 is a solid block, which leaves a large hole."""
    height, width = grid
    ids = torch.stack([torch.randperm(height * width, generator=generator)[:count] for _ in range(batch)])
    ids[0] = torch.arange(height * width)[-count:]
    return torch.stack((ids % width, ids // width), dim=-1).float()


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (8, 8), (33, 17), (64, 64)])
@pytest.mark.parametrize("part", [0.12, 0.5, 1.0])
def test_grid_search_is_exact(grid: tuple[int, int], part: float) -> None:
    generator = torch.Generator().manual_seed(0)
    height, width = grid
    sites = occupied(3, grid, max(1, int(part * height * width)), generator)
    inside = torch.rand(3, 211, 2, generator=generator) * torch.tensor([width + 12.0, height + 12.0]) - 6
    on_lattice = torch.randint(-3, max(grid) + 3, (3, 101, 2), generator=generator).float()
    between = torch.randint(-6, 2 * max(grid), (3, 101, 2), generator=generator) / 2
    points = torch.cat((inside, on_lattice, between), dim=1)
    k = min(4, sites.shape[1])
    assert torch.equal(nearest_on_grid(points, sites, k, grid), nearest_reference(points, sites, k))
    assert torch.equal(nearest_recorded(points, sites, k, grid), nearest_reference(points, sites, k))


@pytest.mark.parametrize(("points", "sites", "k"), [(1, 1, 1), (7, 3, 2), (513, 129, 8), (31, 8, 8)])
def test_brute_force_is_exact(points: int, sites: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affmae_kernels.search.windows.CHUNK", 1000)
    monkeypatch.setattr("affmae_kernels.search.recorded.CHUNK", 1000)
    generator = torch.Generator().manual_seed(1)
    at = torch.randint(0, 12, (2, points, 2), generator=generator).float()
    places = torch.randint(0, 12, (2, sites, 2), generator=generator).float()  # many ties, and duplicate sites
    assert torch.equal(nearest_brute_force(at, places, k), nearest_reference(at, places, k))
    assert torch.equal(nearest_recorded(at, places, k, None), nearest_reference(at, places, k))


def test_a_recorded_search_follows_other_points() -> None:
    generator = torch.Generator().manual_seed(2)
    sites = occupied(1, (9, 12), 108, generator)
    points, others = (torch.rand(1, 60, 2, generator=generator) * 16 - 2 for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded = torch.jit.trace(lambda at: nearest(at, sites, 4, (9, 12)), (points,), check_trace=False)
    assert torch.equal(recorded(others), nearest(others, sites, 4, (9, 12)))


@pytest.mark.parametrize("search", [nearest_on_grid, nearest_recorded])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_points_that_are_nowhere_leave_the_others_alone(search: Callable[..., Tensor], value: float) -> None:
    generator = torch.Generator().manual_seed(3)
    sites = occupied(1, (9, 12), 40, generator)
    points = torch.rand(1, 60, 2, generator=generator) * 16 - 2
    wanted = nearest_reference(points, sites, 4)
    points[0, 7, 0] = points[0, 9, 1] = value
    found = search(points, sites, 4, (9, 12))
    others = torch.ones(60, dtype=torch.bool)
    others[[7, 9]] = False
    assert torch.equal(found[0, others], wanted[0, others])
    assert 0 <= found.min() <= found.max() < 40


def test_fewer_sites_than_asked() -> None:
    assert nearest(torch.zeros(1, 5, 2), torch.ones(1, 3, 2), 4).shape == (1, 5, 3)


@pytest.mark.parametrize(
    ("points", "sites", "k", "message"),
    [
        ((1, 5), (1, 3, 2), 1, r"points must be \[B, P, 2\]"),
        ((2, 5, 2), (1, 3, 2), 1, r"sites must be \[B, n, 2\] = \[2, any, 2\], got \[1, 3, 2\]"),
        ((1, 5, 2), (1, 0, 2), 1, "at least one position"),
        ((1, 5, 2), (1, 3, 2), 0, "k must be at least 1"),
    ],
)
def test_bad_arguments(points: tuple[int, ...], sites: tuple[int, ...], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest(torch.zeros(points), torch.zeros(sites), k)
