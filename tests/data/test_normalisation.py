"""Statistics are robust, repeatable, and never divide by zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_affmae.card import Normalisation
from napari_affmae.data.normalisation import apply, measure, measure_array
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
)
def test_any_type_comes_out_standardised(dtype: str) -> None:
    image = RNG.normal(60, 12, (200, 150)).astype(dtype)
    out = apply(image[..., None], measure_array(image))
    assert out.shape == (1, 200, 150)
    assert out.dtype == np.float32
    assert abs(float(out.mean())) < 0.02
    assert abs(float(out.std()) - 1) < 0.02


@pytest.mark.parametrize("offset", [2**31, 2**40])
def test_a_small_contrast_on_a_huge_offset_survives(offset: int) -> None:
    image = RNG.integers(0, 50, (100, 100)) + offset
    out = apply(image, measure_array(image))
    assert len(np.unique(out)) == 50


def test_hot_pixels_do_not_matter() -> None:
    image = RNG.normal(100, 10, (300, 300)).astype(np.float32)
    spoilt = image.copy()
    spoilt.flat[::5000] = 1e6
    clean, robust = measure_array(image), measure_array(spoilt)
    assert robust.std[0] == pytest.approx(clean.std[0], rel=0.02)
    assert robust.mean[0] == pytest.approx(clean.mean[0], rel=0.02)
    assert apply(spoilt, robust).max() < 5


def test_channels_are_measured_apart_and_a_dead_one_becomes_zero() -> None:
    image = np.stack([RNG.normal(5, 1, (80, 90)), np.full((80, 90), 7.0), RNG.normal(-300, 40, (80, 90))], axis=-1)
    out = apply(image, measure_array(image))
    np.testing.assert_allclose(out.mean(axis=(1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(out.std(axis=(1, 2)), (1, 0, 1), atol=0.02)


def test_a_mask_with_few_bright_pixels_keeps_them() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[50, 50:60] = 255  # 0.025 %: both percentiles are 0
    statistics = measure_array(mask)
    assert (statistics.low, statistics.high) == ((0,), (255,))
    assert apply(mask, statistics).max() > 10


def test_constant_and_broken_arrays_are_refused() -> None:
    with pytest.raises(DataError, match="every pixel has the value 3; there is no contrast"):
        measure_array(np.full((9, 9), 3))
    with pytest.raises(DataError, match="NaN or infinite"):
        measure_array(np.array([[1.0, np.nan]]))


def test_images_that_differ_only_from_one_another_can_be_measured() -> None:
    # Nearly constant images: the contrast lies between them.
    arrays = {str(i): np.full((50, 50), i, np.uint8) for i in range(5)}
    for array in arrays.values():
        array[0, 0] += 1
    assert measure(collection_from_arrays(arrays)).std[0] > 1


def test_the_sample_is_repeatable_and_spread() -> None:
    collection = collection_from_arrays({str(i): RNG.normal(i, 1, (300, 300)) for i in range(20)})
    assert measure(collection, sample=5, seed=3) == measure(collection, sample=5, seed=3)
    assert measure(collection, sample=5, seed=3) != measure(collection, sample=5, seed=4)
    assert measure(collection).mean[0] == pytest.approx(9.5, abs=0.1)


def test_vanished_images_are_left_out_until_none_remains(tmp_path: Path) -> None:
    collection = collection_from_arrays({"a": RNG.random((30, 30)), "b": RNG.random((30, 30))})
    gone = replace(collection.records[0], array=None, path=tmp_path / "gone.png")
    assert measure(ImageCollection((gone, collection.records[1]))) == measure(ImageCollection((collection.records[1],)), seed=0)
    with pytest.raises(
        DataError, match="none of 1 sampled images can be read any more, the last because a: the file is not there"
    ):
        measure(ImageCollection((gone,)))


def test_apply_is_the_formula() -> None:
    statistics = Normalisation(low=(10,), high=(200,), mean=(90,), std=(40,))
    image = np.array([[0, 10, 90, 250]], np.uint8)
    np.testing.assert_allclose(apply(image, statistics)[0, 0], [-2, -2, 0, 2.75])


def test_the_wrong_number_of_channels_is_refused() -> None:
    statistics = Normalisation(low=(0,), high=(1,), mean=(0,), std=(1,))
    with pytest.raises(DataError, match=r"expected an image with 1 channel.*got shape \(4, 5, 3\)"):
        apply(np.zeros((4, 5, 3)), statistics)
