"""Masks: exact counts, regions of several sizes, and nothing degenerate at awkward grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_affmae.model.masking import complement, draw_mask, perlin_noise, visible_count


@pytest.mark.parametrize("kind", ["perlin", "random"])
@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 2), (5, 31), (32, 32)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75, 0.99])
def test_counts_are_exact(kind: str, grid: tuple[int, int], ratio: float) -> None:
    patches = grid[0] * grid[1]
    visible, hidden = draw_mask(5, grid, ratio, kind, torch.device("cpu"), None)
    assert visible.shape == (5, visible_count(patches, ratio))
    everything = torch.cat((visible, hidden), dim=1).sort(dim=1).values
    assert torch.equal(everything, torch.arange(patches).expand(5, -1))
    assert torch.equal(complement(visible, patches), hidden)


def test_perlin_hides_regions_of_falling_size() -> None:
    """The mean region of each quarter of a batch is smaller than the one before."""
    grid, sizes = (128, 128), []
    _, hidden = draw_mask(32, grid, 0.5, "perlin", torch.device("cpu"), torch.Generator().manual_seed(0))
    for group in hidden.split(8):
        widths = []
        for ids in group:
            mask = np.zeros(grid[0] * grid[1], bool)
            mask[ids.numpy()] = True
            widths.append(ndimage.distance_transform_edt(mask.reshape(grid))[mask.reshape(grid)].mean())
        sizes.append(np.mean(widths))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


@pytest.mark.parametrize("grid", [(33, 33), (33, 17), (3, 64), (2, 2)])
def test_no_cell_of_perlin_noise_is_finer_than_two_patches(grid: tuple[int, int]) -> None:
    noise = perlin_noise(64, grid, "cpu", torch.Generator().manual_seed(0))
    assert noise.isfinite().all()
    assert (noise.abs() < 1e-6).float().mean() < 0.05, "sampled at its own lattice, the noise would vanish"
    assert noise.abs().max() <= 1.5


def test_masks_are_unbiased_over_places() -> None:
    visible, _ = draw_mask(400, (16, 16), 0.5, "perlin", torch.device("cpu"), torch.Generator().manual_seed(3))
    share = torch.zeros(256).scatter_add_(0, visible.flatten(), torch.ones(visible.numel())) / 400
    assert share.min() > 0.25
    assert share.max() < 0.75
