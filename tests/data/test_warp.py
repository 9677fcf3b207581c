"""Labels are deformed exactly as their images, half of the samples stay as they are, and nothing leaves the tile."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_affmae.data.augment import augment
from napari_affmae.data.warp import WARPED, places_of, warp


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_classes(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images whose brightness says the class: smooth, so that interpolation hardly blurs it."""
    noise = torch.randn(count, 1, 6, 6, generator=generator(1))
    images = functional.interpolate(noise, size=(side, side), mode="bicubic", align_corners=True)
    return images, (images[:, 0] > 0).long()


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_labels_follow_their_images(strength: float) -> None:
    images, labels = smooth_classes(32, 65)
    moved, taken = warp(images, labels, strength, generator())
    assert moved.shape == images.shape
    assert taken.dtype == labels.dtype
    clear = moved[:, 0].abs() > 0.3
    assert ((moved[:, 0] > 0) == taken.bool())[clear].float().mean() > 0.995
    assert ((moved[:, 0] > 0) == labels.bool())[clear].float().mean() < 0.99


def test_about_half_of_the_samples_stay_bit_for_bit() -> None:
    images, labels = smooth_classes(400, 16)
    moved, taken = warp(images, labels, 1.0, generator())
    still = torch.isclose(moved, images, atol=1e-5).flatten(1).all(1)
    assert abs(still.float().mean().item() - (1 - WARPED)) < 0.1
    assert torch.equal(taken[still], labels[still])
    assert not torch.equal(taken[~still], labels[~still])


def test_every_place_is_inside_and_nothing_is_invented() -> None:
    places = places_of(64, 40, 1.0, generator())
    assert places.min() >= 0
    assert places.max() <= 39
    labels = torch.full((16, 40, 40), -1)
    labels[:, 10:20] = 3
    _, taken = warp(torch.zeros(16, 2, 40, 40), labels, 1.0, generator())
    assert set(taken.unique().tolist()) == {-1, 3}


def test_turns_and_stretching_are_as_large_as_said() -> None:
    places = places_of(300, 101, 1.0, generator())
    right = places[:, 50, 100] - places[:, 50, 0]
    length = right.norm(dim=-1) / 100
    assert 1.1 < length.max() < 1.5  # elastic waves come on top of 1.25
    angle = torch.atan2(right[:, 1], right[:, 0]).abs().rad2deg()
    assert 35 < angle.max() < 60
    gentle = places_of(300, 101, 0.1, generator())
    assert torch.atan2(*(gentle[:, 50, 100] - gentle[:, 50, 0]).flip(-1).unbind(-1)).abs().rad2deg().max() < 7


def test_it_follows_from_the_generator_and_leaves_the_other_draws_alone() -> None:
    images, labels = smooth_classes(8, 32)
    once, again = (augment(images, labels, jitter=0.1, deform=0.5, generator=generator(7)) for _ in range(2))
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
    plain, zero = (
        augment(images, labels, jitter=0.1, generator=generator(7)),
        augment(images, labels, jitter=0.1, deform=0.0, generator=generator(7)),
    )
    assert torch.equal(plain[0], zero[0])
