"""Tiles depend on the seed and the step alone, cover everything, and survive images of any size and fate."""

from __future__ import annotations

import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from napari_affmae.card import Normalisation
from napari_affmae.data.crops import crop, reflected, start_at
from napari_affmae.data.fingerprint import fingerprint
from napari_affmae.data.image_cache import ImageCache
from napari_affmae.data.records import ImageCollection, ImageRecord
from napari_affmae.data.scan import collection_from_arrays, scan
from napari_affmae.data.tiles import TileSampler
from napari_affmae.errors import DataError

RNG = np.random.default_rng(0)
PLAIN = Normalisation(low=(0.0,), high=(1e9,), mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17])
@pytest.mark.parametrize("tile", [1, 4, 16, 40])
def test_reflection_is_numpys(size: int, tile: int) -> None:
    image = RNG.integers(0, 99, (size, size))
    before = 7
    padded = np.pad(image, ((before, 60), (before, 60)), mode="reflect" if size > 1 else "edge")
    for row, column in ((-before, 0), (0, 0), (0, -3), (2, 1)):
        np.testing.assert_array_equal(crop(image, row, column, tile), padded[row + before :, column + before :][:tile, :tile])


def test_reflected_indices_of_an_axis_of_two() -> None:
    assert reflected(-2, 6, 2).tolist() == [0, 1, 0, 1, 0, 1]


def test_a_crop_inside_is_a_view() -> None:
    image = np.zeros((20, 30, 2))
    assert crop(image, 12, 22, 8).base is image


@pytest.mark.parametrize(("size", "tile"), [(10, 4), (4, 4), (3, 8), (1, 5)])
def test_starts_reach_both_ends_and_nothing_beyond(size: int, tile: int) -> None:
    starts = {start_at(part, size, tile) for part in np.linspace(0, 1, 400, endpoint=False)}
    least, most = min(0, size - tile), max(0, size - tile)
    assert starts == set(range(least, most + 1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 9), (16, 16), (16, 17), (40, 60)])
def test_images_of_any_size_fill_a_tile(shape: tuple[int, int]) -> None:
    images = {"a": RNG.integers(0, 99, shape), "b": RNG.integers(0, 99, (20, 20))}
    records = collection_from_arrays({k: v for k, v in images.items() if v.size > 1})
    tiles = TileSampler(records, PLAIN, 16, 5, seed=1).batch(0)
    assert tiles.shape == (5, 1, 16, 16)
    assert tiles.dtype == np.float32
    assert np.isfinite(tiles).all()
    assert set(np.unique(tiles)) <= set(np.concatenate([image.ravel() for image in images.values()]).tolist())


def collection() -> ImageCollection:
    return collection_from_arrays({str(i): RNG.integers(0, 65_000, (40 + 9 * i, 50), dtype=np.uint16) for i in range(6)})


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    images = collection()
    first = TileSampler(images, PLAIN, 32, 4, seed=5)
    second = TileSampler(images, PLAIN, 32, 4, seed=5, cache_bytes=0)
    expected = [first.batch(step) for step in range(6)]
    for step in (4, 0, 5, 2, 2, 1, 3):  # another order, as after a resume
        np.testing.assert_array_equal(second.batch(step), expected[step])
    assert not np.array_equal(expected[0], expected[1])
    assert not np.array_equal(TileSampler(images, PLAIN, 32, 4, seed=6).batch(0), expected[0])


def test_large_images_are_seen_in_proportion() -> None:
    images = collection_from_arrays({"large": RNG.integers(0, 9, (120, 120)), "small": RNG.integers(10, 19, (40, 40))})
    sampler = TileSampler(images, PLAIN, 40, 50, seed=0)
    large = np.concatenate([sampler.batch(step).max(axis=(1, 2, 3)) < 10 for step in range(20)])
    assert large.mean() == pytest.approx(0.9, abs=0.04)
    assert sampler.tiles_per_epoch == 10


def test_every_pixel_can_be_seen() -> None:
    image = np.arange(23 * 31).reshape(23, 31)
    sampler = TileSampler(collection_from_arrays({"a": image}), PLAIN, 16, 60, seed=0)
    seen = np.unique(np.concatenate([sampler.batch(step).ravel() for step in range(20)]))
    assert len(seen) == image.size


def test_a_vanished_image_is_replaced_and_noted(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(RNG.integers(0, 256, (40, 40), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    sampler = TileSampler(scan(tmp_path), PLAIN, 32, 8, seed=0)
    (tmp_path / "1.png").unlink()
    for step in range(3):
        assert sampler.batch(step).shape == (8, 1, 32, 32)
    assert [(item.name, "not there" in item.reason) for item in sampler.lost] == [("1.png", True)]
    for index in (0, 2):
        (tmp_path / f"{index}.png").unlink()
    assert sampler.batch(3).shape == (8, 1, 32, 32), "what was read before is still in memory"
    fresh = TileSampler(scan_before_unlink(tmp_path), PLAIN, 32, 8, seed=0)
    with pytest.raises(DataError, match=r"none of the 3 images can be read any more.*is the drive still there\?"):
        fresh.batch(0)


def scan_before_unlink(folder: Path) -> ImageCollection:
    for index in range(3):
        Image.fromarray(RNG.integers(0, 256, (40, 40), dtype=np.uint8)).save(folder / f"{index}.png")
    found = scan(folder)
    for index in range(3):
        (folder / f"{index}.png").unlink()
    return found


def test_the_cache_keeps_within_its_bytes(tmp_path: Path) -> None:
    for index in range(4):
        Image.fromarray(RNG.integers(0, 256, (10, 10), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    cache = ImageCache(scan(tmp_path).records, limit=250)
    read = [weakref.ref(cache[0])]
    assert cache[0] is read[0]()
    for index in (1, 2, 3):
        read.append(weakref.ref(cache[index]))
        kept = [pixels() for pixels in read]
        assert sum(pixels.nbytes for pixels in kept if pixels is not None) <= 250
        del kept
    assert read[0]() is None
    assert cache[3] is read[3]()
    assert ImageCache(scan(tmp_path).records, limit=99)[0].shape == (10, 10, 1)


def test_cached_batches_are_quick() -> None:
    images = collection_from_arrays({str(i): RNG.integers(0, 256, (700, 700), dtype=np.uint8) for i in range(4)})
    sampler = TileSampler(images, PLAIN, 512, 16, seed=0)
    sampler.batch(0)
    times = []
    for step in range(8):
        started = time.perf_counter()
        sampler.batch(step)
        times.append(time.perf_counter() - started)
    # Measured 6 ms on one core; a tenth of a second leaves room for a busy machine.
    assert min(times) < 0.1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are read as a whole, in order."""
    names: list[str] = []
    read = ImageRecord.read

    def noted(record: ImageRecord) -> np.ndarray:
        names.append(record.name)
        return read(record)

    monkeypatch.setattr(ImageRecord, "read", noted)
    return names


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_images_that_are_not_all_kept_are_read_once_a_step_at_most(tmp_path: Path, reads: list[str], kept: int) -> None:
    for index in range(4):
        Image.fromarray(RNG.integers(0, 256, (40, 50), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    images = scan(tmp_path)
    expected = TileSampler(images, PLAIN, 32, 24, seed=0)
    sampler = TileSampler(images, PLAIN, 32, 24, seed=0, cache_bytes=kept * 2000)
    for step in range(3):
        wanted = expected.batch(step)
        reads.clear()
        np.testing.assert_array_equal(sampler.batch(step), wanted)
        # One is kept whatever its size.
        assert len(reads) == len(set(reads)) == 4 - (max(kept, 1) if step else 0)


def on_disk(folder: Path) -> ImageCollection:
    """Return zarr images of (100, 30) and (50, 120) pixels."""
    for name, shape in (("a", (100, 30)), ("b", (50, 120))):
        array = zarr.create_array(folder / f"{name}.zarr", shape=shape, chunks=(16, 16), dtype="uint16")
        array[:] = RNG.integers(0, 65_000, shape)
    return scan(folder)


def test_tiles_of_a_large_image_on_disk_are_read_alone_and_are_the_same(tmp_path: Path, reads: list[str]) -> None:
    images = on_disk(tmp_path)
    expected = [TileSampler(images, PLAIN, 32, 16, seed=0).batch(step) for step in range(3)]
    sampler = TileSampler(images, PLAIN, 32, 16, seed=0, cache_bytes=1000)
    reads.clear()
    for step in (2, 0, 1):
        np.testing.assert_array_equal(sampler.batch(step), expected[step])
    assert not reads
    assert sorted(sampler.fingerprints) == sorted(fingerprint(record.read()) for record in images.records)


def test_a_large_image_on_disk_that_breaks_is_replaced_and_noted(tmp_path: Path) -> None:
    images = on_disk(tmp_path)
    sampler = TileSampler(images, PLAIN, 32, 16, seed=0, cache_bytes=1000)
    sampler.batch(0)
    for chunk in (tmp_path / "b.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    assert sampler.batch(1).shape == (16, 1, 32, 32)
    assert [item.name for item in sampler.lost] == ["b.zarr"]
    assert "b.zarr" in sampler.lost[0].reason
