"""Token maps are what they say they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_affmae.engine.inspect import Inspection, inspect
from napari_affmae.engine.merge_map import owners, token_density
from napari_affmae.engine.pca import pca_colors
from napari_affmae.errors import DataError, DeviceError
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig


@pytest.fixture
def model(micro: ModelConfig) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(micro)


@pytest.fixture
def inspection(model: MaskedAutoencoder, blobs: tuple[np.ndarray, np.ndarray]) -> Inspection:
    return inspect(model, blobs[0][:90, :70], device="cpu")


def test_shapes_types_and_ranges(inspection: Inspection) -> None:
    assert [stage.name for stage in inspection.stages] == ["stage 1", "stage 2", "stage 3", "stage 4"]
    assert inspection.patch_size == 4
    assert inspection.pca.shape == (90, 70, 3)
    patches, counts = 23 * 18, [len(stage.positions_rc) for stage in inspection.stages]
    assert counts[0] == patches
    assert counts == sorted(counts, reverse=True)
    for stage in inspection.stages:
        assert stage.merge_map.shape == stage.density.shape == (90, 70)
        assert stage.merge_map.dtype == np.int32
        assert stage.merge_map.min() >= 1
        assert stage.merge_map.max() <= len(stage.positions_rc)
        for picture in (stage.pca, inspection.pca):
            assert picture.dtype == np.float32
            assert picture.shape == (90, 70, 3)
            assert picture.min() >= 0
            assert picture.max() <= 1
        assert 0 < stage.effective_rank <= min(len(stage.positions_rc), 16)
        assert 0 < stage.effective_rank_normalised <= 1


def test_a_token_owns_its_own_place(inspection: Inspection) -> None:
    for stage in inspection.stages:
        for number, (row, column) in enumerate(stage.positions_rc, start=1):
            # Centres of patches of 4 pixels lie between pixels, those at the end of 90 × 70 pixels between the last two.
            r, c = int(row), int(column)
            assert (row - r, column - c) == (0.5, 0.5)
            assert stage.merge_map[r, c] == number
    assert inspection.stages[0].positions_rc.max(axis=0).tolist() == [88.5, 68.5]


def test_every_patch_belongs_to_its_nearest_token_ties_to_the_lower_index() -> None:
    positions = torch.tensor([[4.0, 1.0], [0.0, 1.0], [2.0, 3.0]])
    owner = owners(positions, (5, 6))
    for y in range(5):
        for x in range(6):
            distance = (positions - torch.tensor([x, y])).square().sum(-1)
            assert owner[y, x] == int(distance.argmin()), (x, y)
    assert owner[1, 2] == 0


def test_density_counts_tokens() -> None:
    grid = (12, 10)
    every = torch.stack(torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing="xy"), -1).view(-1, 2)
    torch.testing.assert_close(token_density(owners(every, grid), 120), torch.ones(grid))
    left = every[(every[:, 0] < 3) | (every[:, 0] % 3 + every[:, 1] % 3 == 0)]
    density = token_density(owners(left, grid), len(left))
    assert density.mean().item() == pytest.approx(len(left) / 120, rel=1e-5)
    assert density[:, :2].mean() > 3 * density[:, -3:].mean()


def test_colours_do_not_flip_between_calls_and_do_not_depend_on_the_sign() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 7, generator=generator) * torch.arange(1, 8)
    colors = pca_colors(features)
    assert torch.equal(colors, pca_colors(features))
    assert colors.shape == (500, 3)
    assert (colors == 0).float().mean().item() == pytest.approx(0.02, abs=0.01)
    assert (colors == 1).float().mean().item() == pytest.approx(0.02, abs=0.01)
    # A little noise changes the features, not the picture.
    noisy = pca_colors(features + 0.01 * torch.randn(500, 7, generator=generator))
    assert (noisy - colors).abs().mean() < 0.02


def test_the_first_colour_is_the_main_direction() -> None:
    ramp = torch.linspace(0, 1, 200)
    features = torch.stack((3 * ramp, 0.1 * torch.sin(40 * ramp)), 1)
    red = pca_colors(features)[:, 0]
    assert (red.diff() >= 0).all()
    assert red[0] == 0
    assert red[-1] == 1


def test_missing_directions_are_grey() -> None:
    assert (pca_colors(torch.ones(20, 5)) == 0.5).all()
    assert (pca_colors(torch.arange(20.0).view(20, 1))[:, 1:] == 0.5).all()


def test_a_region_is_that_part_of_the_image(model: MaskedAutoencoder, blobs: tuple[np.ndarray, np.ndarray]) -> None:
    part = inspect(model, blobs[0], region=(slice(8, 60), slice(30, None)), device="cpu")
    assert part.pca.shape == (52, 50, 3)


def test_an_image_that_is_too_large_asks_for_a_region(model: MaskedAutoencoder) -> None:
    with pytest.raises(DataError, match=r"1537 × 1536 pixels are more than .*choose a region"):
        inspect(model, np.zeros((1537, 1536), np.uint8), device="cpu")


@pytest.mark.parametrize("region", [(slice(50, 50), slice(None)), (slice(None, None, 2), slice(None))])
def test_regions_that_make_no_sense(model: MaskedAutoencoder, region: tuple[slice, slice]) -> None:
    with pytest.raises(DataError, match="region"):
        inspect(model, np.zeros((60, 60), np.uint8), region=region)


def test_channels_that_do_not_fit(model: MaskedAutoencoder) -> None:
    with pytest.raises(DataError, match="the image has 2 channels, but the model was made for 1"):
        inspect(model, np.zeros((60, 60, 2), np.uint8))


def test_segmenters_and_files_can_be_looked_into(
    micro: ModelConfig, tmp_path: Path, blobs: tuple[np.ndarray, np.ndarray]
) -> None:
    path = save_model(Segmenter(micro, 2), tmp_path / "model.safetensors")
    assert len(inspect(path, blobs[0], device="cpu").stages) == 4


def test_exhausted_memory(
    model: MaskedAutoencoder, blobs: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MaskedAutoencoder, "features", exhausted)
    with pytest.raises(DeviceError, match="exhausted: 96 × 80 pixels are too many at once, choose a smaller region"):
        inspect(model, blobs[0], device="cpu")
