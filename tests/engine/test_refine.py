"""What refinement promises, on random and on drawn images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk
from skimage.measure import label

from napari_affmae.card import ClassInfo
from napari_affmae.config import Refinement
from napari_affmae.engine.refine import background_of, certainty_of, fill_holes, measure, refine, remove_specks, separate
from napari_affmae.errors import ConfigError

CLASSES = tuple(
    ClassInfo(id=class_id, name=name, color="#ffffff") for class_id, name in ((4, "cell"), (1, "background"), (9, "wall"))
)
GROUND = 1


def blobs(seed: int, shape: tuple[int, int] = (90, 70)) -> np.ndarray:
    """Ids 1, 4, 9 in regions of many sizes, down to single pixels."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), 1.5) + rng.normal(size=shape) * 0.03 for _ in range(3)]
    return np.array([1, 4, 9], np.uint8)[np.argmax(fields, axis=0)]


def discs(*centres: tuple[int, int], radius: int = 12, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for centre in centres:
        mask[disk(centre, radius, shape=shape)] = True
    return mask


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("specks", "holes"), [(0, 0), (30, 0), (0, 40), (30, 40), (200, 300)])
def test_twice_is_once_and_no_pixel_is_lost(seed: int, specks: int, holes: int) -> None:
    labels = blobs(seed)
    before = labels.copy()
    settings = Refinement(specks=specks, holes=holes, instances=True, split=1)
    once = refine(labels, CLASSES, settings)
    np.testing.assert_array_equal(labels, before)
    assert once.labels.dtype == labels.dtype
    assert set(np.unique(once.labels)) <= {1, 4, 9}
    np.testing.assert_array_equal(refine(once.labels, CLASSES, settings).labels, once.labels)
    assert once.instances is not None
    numbers = np.unique(once.instances[once.instances > 0])
    np.testing.assert_array_equal(numbers, np.arange(1, len(numbers) + 1))
    np.testing.assert_array_equal(once.instances > 0, once.labels != GROUND)
    assert sum(one.pixels for one in once.table) == np.count_nonzero(once.labels != GROUND)
    assert [one.number for one in once.table] == numbers.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_no_specks_stay_and_what_is_large_only_grows(seed: int) -> None:
    labels = blobs(seed)
    cleaned = remove_specks(labels, 30, GROUND)
    for class_id in (4, 9):
        regions = label(cleaned == class_id, connectivity=1)
        assert np.bincount(regions.ravel())[1:].min(initial=30) >= 30
        large = label(labels == class_id, connectivity=1)
        kept = np.isin(large, np.flatnonzero(np.bincount(large.ravel()) >= 30)[1:]) & (labels == class_id)
        assert (cleaned[kept] == class_id).all()
    assert (cleaned[labels == GROUND] == GROUND).all()


def test_a_speck_goes_to_its_surroundings() -> None:
    labels = np.full((20, 20), 9)
    labels[5:15, 5:15] = 4
    labels[9, 9] = 9
    labels[9, 10] = GROUND  # background is no speck
    cleaned = remove_specks(labels, 2, GROUND)
    assert cleaned[9, 9] in (4, GROUND)
    assert cleaned[9, 10] == GROUND
    assert np.count_nonzero(cleaned != labels) == 1


def test_an_image_of_specks_stays() -> None:
    labels = np.array([[4, 9], [9, 4]])
    np.testing.assert_array_equal(remove_specks(labels, 10, GROUND), labels)


def test_holes_are_background_inside_one_class_away_from_the_edge() -> None:
    labels = np.full((40, 40), GROUND)
    labels[2:30, 2:30] = 4
    labels[5:8, 5:8] = GROUND  # 9 pixels
    labels[15:20, 15:20] = GROUND  # 25 pixels
    labels[25, 25:29] = 9  # another class is no hole
    labels[10, 29] = GROUND  # a bay
    labels[30:, :10] = 9
    labels[29, 5] = GROUND  # between two classes
    filled = fill_holes(labels, 9, GROUND)
    assert (filled[5:8, 5:8] == 4).all()
    assert np.count_nonzero(filled != labels) == 9
    assert np.count_nonzero(fill_holes(labels, 25, GROUND) != labels) == 34


def test_a_hole_that_touches_the_edge_of_the_image_may_go_on_beyond_it() -> None:
    labels = np.full((9, 9), 4)
    labels[0, 4] = GROUND
    np.testing.assert_array_equal(fill_holes(labels, 5, GROUND), labels)


def test_two_touching_discs_are_two_and_one_is_one() -> None:
    pair = discs((30, 25), (30, 46))
    assert label(pair).max() == 1
    numbers = separate(pair, None, 2.0)
    assert numbers.max() == 2
    assert np.array_equal(numbers > 0, pair)
    sizes = np.bincount(numbers.ravel())[1:]
    assert abs(sizes[0] - sizes[1]) < 0.1 * sizes.mean()
    assert len({numbers[30, 25], numbers[30, 46], 0}) == 3
    assert separate(discs((30, 30)), None, 2.0).max() == 1
    assert separate(pair, None, 0).max() == 1
    assert separate(pair, None, 50).max() == 1, "no neck is so deep, and no object is lost"


def test_a_dip_of_the_probability_parts_what_the_shape_does_not() -> None:
    bar = np.zeros((30, 60), bool)
    bar[5:25, 5:55] = True
    of_class = np.where(np.abs(np.arange(60) - 30) < 3, 0.55, 0.98).astype(np.float32) * np.ones((30, 1), np.float32)
    assert separate(bar, None, 2.0).max() == 1
    numbers = separate(bar, certainty_of(np.stack([1 - of_class, of_class])), 2.0)
    assert numbers.max() == 2
    assert numbers[15, 10] != numbers[15, 50]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 3)])
@pytest.mark.parametrize("value", [1, 4])
def test_tiny_images(shape: tuple[int, int], value: int) -> None:
    result = refine(np.full(shape, value, np.uint8), CLASSES, Refinement(specks=5, holes=5, instances=True, split=2))
    assert (result.labels == value).all()
    assert len(result.table) == (value == 4)


def test_the_table_holds_class_area_and_centre() -> None:
    labels = np.full((20, 30), GROUND)
    labels[2:5, 10:14] = 9
    labels[10:12, 0:3] = 4
    first, second = refine(labels, CLASSES, Refinement(instances=True)).table
    assert (first.number, first.class_id, first.pixels, first.row, first.column) == (1, 4, 6, 10.5, 1.0)
    assert (second.number, second.class_id, second.pixels, second.row, second.column) == (2, 9, 12, 3.0, 11.5)
    assert measure(np.zeros((4, 4), np.int32), np.ones((4, 4), np.uint8)) == ()


def test_the_background_is_named_or_found() -> None:
    assert background_of(CLASSES) == 1
    assert background_of(CLASSES, "Wall") == 9
    assert background_of(CLASSES[:1]) == 4
    with pytest.raises(ConfigError, match="no class 'sky' to be the background; the classes are cell, background, wall"):
        background_of(CLASSES, "sky")
