"""Synthetic micrographs have exact labels, look alike in number, and are the same for the same seed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage

from napari_affmae.data.labels import LabelledImage, LabelledSampler
from napari_affmae.data.normalisation import measure
from napari_affmae.data.scribbles import scribbles
from napari_affmae.data.smooth_noise import smooth_noise
from napari_affmae.data.synthetic import (
    CYTOPLASM,
    MEMBRANE,
    MITOCHONDRION,
    SYNTHETIC_CLASSES,
    SYNTHETIC_PAINT,
    SYNTHETIC_PIXEL_SIZE,
    synthetic_collection,
    synthetic_em,
)
from napari_affmae.errors import LabelError


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return synthetic_em(512, seed=0)


def test_shape_type_and_classes(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = drawn
    assert image.shape == labels.shape == (512, 512)
    assert image.dtype == labels.dtype == np.uint8
    parts = np.bincount(labels.ravel()) / labels.size
    # em_vnc_sstem, which it imitates: 74 % interior, 17 % membrane, 5 % mitochondria.
    assert 0.65 < parts[CYTOPLASM] < 0.88
    assert 0.08 < parts[MEMBRANE] < 0.25
    assert 0.02 < parts[MITOCHONDRION] < 0.12


@pytest.mark.parametrize("seed", range(1, 7))
def test_every_seed_draws_every_class(seed: int) -> None:
    image, labels = synthetic_em(256, seed)
    assert np.unique(labels).tolist() == [CYTOPLASM, MEMBRANE, MITOCHONDRION]
    assert 75 < image.mean() < 185
    assert 30 < image.std() < 75


def test_labels_are_where_the_picture_shows_them(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = drawn
    smooth = ndimage.gaussian_filter(image.astype(float), 1)
    middle = {k: smooth[ndimage.distance_transform_edt(labels == k) >= 2].mean() for k in (CYTOPLASM, MEMBRANE, MITOCHONDRION)}
    assert middle[MEMBRANE] < 0.6 * middle[CYTOPLASM]
    assert middle[MITOCHONDRION] < 0.8 * middle[CYTOPLASM]
    # Shifting the labels by a few pixels makes the fit worse: they are exact, not merely close.
    at_home = smooth[labels == MEMBRANE].mean()
    for shift in ((4, 0), (0, 4), (-4, 0), (0, -4)):
        assert smooth[np.roll(labels, shift, (0, 1)) == MEMBRANE].mean() > at_home + 15
    at_home = smooth[labels == MITOCHONDRION].mean()
    for shift in ((8, 0), (0, 8), (-8, 0), (0, -8)):
        assert smooth[np.roll(labels, shift, (0, 1)) == MITOCHONDRION].mean() > at_home + 8


def test_the_classes_cannot_be_told_apart_by_one_threshold(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    image, labels = drawn
    truth = labels == MEMBRANE
    scores = [(truth & (image < t)).sum() / (truth | (image < t)).sum() for t in range(10, 200, 5)]
    assert max(scores) < 0.7, "a data set for a network should need one"


def test_membranes_close_around_cells(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    _, labels = drawn
    cells, count = ndimage.label(labels != MEMBRANE)
    assert count > 25
    assert np.bincount(cells.ravel())[1:].max() < 0.3 * labels.size


def test_the_seed_decides_everything(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    for ours, theirs in zip(synthetic_em(512, seed=0), drawn, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(synthetic_em(128, 1)[0], synthetic_em(128, 2)[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (17, 5), (100, 333)])
def test_any_size(size: tuple[int, int]) -> None:
    image, labels = synthetic_em(size, 3)
    assert image.shape == labels.shape == size


def test_it_is_quick() -> None:
    started = time.perf_counter()
    synthetic_em(512, 1)
    assert time.perf_counter() - started < 3, "0.3 s on one free core"


def test_collections_hold_what_is_drawn_from_their_seeds() -> None:
    collection = synthetic_collection(3, 96, seed=5)
    assert collection.pixel_size == SYNTHETIC_PIXEL_SIZE
    for seed, record in enumerate(collection.records, start=5):
        np.testing.assert_array_equal(record.read()[..., 0], synthetic_em(96, seed)[0])
    assert [(info.id, info.name) for info in SYNTHETIC_PAINT] == [(info.id + 1, info.name) for info in SYNTHETIC_CLASSES]


def test_smooth_noise_is_smooth_and_of_known_strength() -> None:
    field = smooth_noise((600, 600), 15, np.random.default_rng(0))
    assert abs(field.mean()) < 0.1
    assert field.std() == pytest.approx(0.7, abs=0.05)
    assert np.abs(np.diff(field, axis=0)).max() < 0.5


@pytest.mark.parametrize("fraction", [0.005, 0.03, 0.1])
def test_scribbles_stay_in_their_class_and_cover_their_part(drawn: tuple[np.ndarray, np.ndarray], fraction: float) -> None:
    _, labels = drawn
    paint = scribbles(labels, fraction, seed=1)
    painted = paint > 0
    np.testing.assert_array_equal(paint[painted], labels[painted] + 1)
    for class_id in range(3):
        part = (paint == class_id + 1).sum() / (labels == class_id).sum()
        assert 0.8 * fraction < part < fraction + 0.06
        assert ndimage.label(paint == class_id + 1)[1] >= 3 or fraction == 0.1


def test_scribbles_follow_their_seed(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    _, labels = drawn
    np.testing.assert_array_equal(scribbles(labels, 0.01, 1), scribbles(labels, 0.01, 1))
    assert not np.array_equal(scribbles(labels, 0.01, 1), scribbles(labels, 0.01, 2))


def test_scribbles_can_be_trained_on_with_a_score(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    _, labels = drawn
    collection = synthetic_collection(1)
    example = LabelledImage(collection.records[0], scribbles(labels, 0.02))
    tiles = LabelledSampler([example], SYNTHETIC_PAINT, measure(collection), 128, 4, sparse=True, held_out=0.2)
    assert tiles.held_out_kind == "strokes"
    images, targets = tiles.batch(0)
    assert images.shape == (4, 1, 128, 128)
    assert (targets >= 0).any()


@pytest.mark.parametrize("labels", [np.zeros((2, 3, 3), int), np.zeros((3, 3)), np.full((3, 3), 255), np.full((3, 3), -1)])
def test_scribbles_refuse_what_is_no_label_image(labels: np.ndarray) -> None:
    with pytest.raises(LabelError, match="expected ids from 0 to 254"):
        scribbles(labels)


def test_scribbles_of_a_tiny_image() -> None:
    labels = np.zeros((1, 5), np.uint8)
    labels[0, 3] = 1
    assert set(np.unique(scribbles(labels, 0.5))) <= {0, 1, 2}
    with pytest.raises(LabelError, match="fraction"):
        scribbles(labels, 0)
