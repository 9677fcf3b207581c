"""Labels move exactly as their images; the eight symmetries form a group; everything follows from the generator."""

from __future__ import annotations

import pytest
import torch

from napari_affmae.data.augment import augment, jitter_intensity, turn


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_images_and_labels_stay_aligned() -> None:
    labels = torch.randint(0, 1000, (64, 12, 12))
    images = torch.stack([labels.float(), -2 * labels.float()], dim=1)
    turned, moved = augment(images, labels, jitter=0.0, generator=generator())
    assert moved.dtype == labels.dtype
    torch.testing.assert_close(turned[:, 0], moved.float())
    torch.testing.assert_close(turned[:, 1], -2 * moved.float())
    assert not torch.equal(moved, labels)


def test_every_code_is_another_symmetry() -> None:
    tile = torch.arange(25).reshape(1, 1, 5, 5).expand(8, 1, 5, 5)
    codes = torch.arange(8)
    turned = turn(tile, codes)
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8
    assert torch.equal(turned[0], tile[0])
    quarter = torch.rot90(tile[0], 1, (-2, -1))
    assert any(torch.equal(t, quarter) for t in turned)


def test_the_symmetries_are_closed_under_composition() -> None:
    tile = torch.arange(25).reshape(1, 5, 5).expand(8, 5, 5)
    once = turn(tile, torch.arange(8))
    known = {tuple(t.flatten().tolist()) for t in once}
    for code in range(8):
        again = turn(once, torch.full((8,), code))
        assert {tuple(t.flatten().tolist()) for t in again} == known


def test_samples_draw_for_themselves_and_all_symmetries_occur() -> None:
    tile = torch.arange(16.0).reshape(1, 1, 4, 4).expand(200, 1, 4, 4)
    turned, nothing = augment(tile, jitter=0.0, generator=generator())
    assert nothing is None
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8


def test_the_generator_decides_everything() -> None:
    images = torch.randn(6, 1, 8, 8)
    first, _ = augment(images, jitter=0.2, generator=generator(3))
    again, _ = augment(images, jitter=0.2, generator=generator(3))
    other, _ = augment(images, jitter=0.2, generator=generator(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_jitter_is_one_stretch_and_one_shift_per_sample() -> None:
    images = torch.randn(50, 3, 8, 8)
    jittered = jitter_intensity(images, 0.2, generator())
    for before, after in zip(images, jittered, strict=True):
        contrast = after.std() / before.std()
        brightness = (after - contrast * before).mean()
        assert 0.8 <= contrast <= 1.2
        assert -0.2 <= brightness <= 0.2
        torch.testing.assert_close(after, before * contrast + brightness, rtol=1e-4, atol=1e-4)
    assert jittered.std(dim=(1, 2, 3)).std() > images.std(dim=(1, 2, 3)).std()


def test_inputs_are_left_alone() -> None:
    images, labels = torch.randn(4, 1, 8, 8), torch.randint(0, 3, (4, 8, 8))
    kept = images.clone(), labels.clone()
    augment(images, labels, jitter=0.3, generator=generator())
    assert torch.equal(images, kept[0])
    assert torch.equal(labels, kept[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_serves_a_gpu_batch() -> None:
    images = torch.randn(4, 1, 8, 8)
    here, _ = augment(images, jitter=0.1, generator=generator())
    there, _ = augment(images.cuda(), jitter=0.1, generator=generator())
    torch.testing.assert_close(there.cpu(), here)
