"""Zarr images are found, placed and read part by part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_affmae.card import ClassInfo, PixelSize
from napari_affmae.data import scan as scan_module
from napari_affmae.data.lazy_plane import LazyPlane
from napari_affmae.data.scan import scan
from napari_affmae.data.zarr_file import ZarrFile
from napari_affmae.errors import DataError

RNG = np.random.default_rng(0)


def store(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    array = zarr.create_array(str(path), shape=pixels.shape, chunks=(8,) * pixels.ndim, dtype=pixels.dtype, **options)
    array[...] = pixels
    return path


def ome(path: Path, pixels: np.ndarray, axes: str, scale: list[float], zarr_format: int) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_array("0", shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype)[...] = pixels
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": a, "type": kinds.get(a, "space")} | ({"unit": "nanometer"} if a in "zyx" else {}) for a in axes]
    step = {"type": "scale", "scale": scale}
    multiscales = [{"axes": described, "datasets": [{"path": "0", "coordinateTransformations": [step]}]}]
    group.attrs.update({"multiscales": multiscales} if zarr_format == 2 else {"ome": {"multiscales": multiscales}})
    return path


@pytest.mark.parametrize(
    ("shape", "pages", "channels"),
    [((20, 30), 1, 1), ((5, 20, 30), 5, 1), ((20, 30, 3), 1, 3), ((2, 20, 30, 4), 2, 4), ((2, 3, 9, 7), 6, 1)],
)
def test_plain_arrays(tmp_path: Path, shape: tuple[int, ...], pages: int, channels: int) -> None:
    pixels = RNG.integers(0, 255, shape, np.uint8)
    collection = scan(store(tmp_path / "a.zarr", pixels))
    assert len(collection) == pages
    assert collection.channels == channels
    flat = pixels.reshape(pages, *(shape[-3:] if channels > 1 else (*shape[-2:], 1)))
    for record, expected in zip(collection.records, flat, strict=True):
        np.testing.assert_array_equal(record.read(), expected)
        np.testing.assert_array_equal(record.open()[3:9, 2:5], expected[3:9, 2:5])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_axes_become_pages_and_channels(tmp_path: Path, zarr_format: int) -> None:
    pixels = RNG.integers(0, 999, (2, 3, 4, 11, 13), np.uint16)  # t c z y x
    path = ome(tmp_path / "a.ome.zarr", pixels, "tczyx", [1, 1, 50, 8, 4], zarr_format)
    collection = scan(path)
    assert [record.name for record in collection.records] == [f"a.ome.zarr[{page}]" for page in range(8)]
    assert collection.pixel_size == PixelSize(y=8, x=4, unit="nanometer")
    np.testing.assert_array_equal(collection.records[5].read(), pixels[1, :, 1].transpose(1, 2, 0))
    chosen = scan(path, channels=(2, 0)).records[5]
    np.testing.assert_array_equal(chosen.open()[1:4, 0:13], pixels[1, [2, 0], 1, 1:4].transpose(1, 2, 0))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_bioformats2raw_makes_is_read_if_it_is_one_image(tmp_path: Path, zarr_format: int) -> None:
    pixels = RNG.integers(0, 999, (20, 30), np.uint16)
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    layout = {"bioformats2raw.layout": 3}
    root.attrs.update(layout if zarr_format == 2 else {"ome": layout})
    root.create_group("OME")
    with pytest.raises(DataError, match=r"a\.zarr: made by bioformats2raw, but it holds no image 0; write it anew"):
        scan(tmp_path / "a.zarr")
    ome(tmp_path / "a.zarr" / "0", pixels, "yx", [8, 4], zarr_format)
    collection = scan(tmp_path)
    assert [record.name for record in collection.records] == ["a.zarr"]
    assert collection.pixel_size == PixelSize(y=8, x=4, unit="nanometer")
    np.testing.assert_array_equal(collection.records[0].read()[..., 0], pixels)
    ome(tmp_path / "a.zarr" / "1", pixels, "yx", [8, 4], zarr_format)
    with pytest.raises(DataError, match=r"a\.zarr: it holds 2 images, 0, 1; give one of them, as a\.zarr/0"):
        scan(tmp_path)
    assert len(scan(tmp_path / "a.zarr" / "1")) == 1


def test_names_of_dimensions_say_where_the_channels_are(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (3, 20, 30), np.uint8)
    (record,) = scan(store(tmp_path / "a.zarr", pixels, dimension_names=["c", "y", "x"])).records
    np.testing.assert_array_equal(record.read(), pixels.transpose(1, 2, 0))


def test_a_folder_holds_files_and_zarrs_alike(tmp_path: Path, write_zarr: Callable[..., Path]) -> None:
    pixels = RNG.integers(0, 255, (20, 30), np.uint8)
    (tmp_path / "sub").mkdir()
    store(tmp_path / "sub" / "b.zarr", pixels)
    classes = (ClassInfo(id=1, name="one", color="#ffffff"),)
    write_zarr(tmp_path / "a.ome.zarr", pixels, (pixels > 9).astype(np.uint8), classes)
    collection = scan(tmp_path)
    assert [record.name for record in collection.records] == ["a.ome.zarr", "sub/b.zarr"]
    assert collection.ignored == 0


def test_of_a_large_image_only_the_metadata_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "_MOST_PIXELS_READ", 100)
    store(tmp_path / "a.zarr", np.zeros((20, 30), np.uint8))  # a constant image, but who knows
    monkeypatch.setattr(LazyPlane, "__getitem__", lambda *_: pytest.fail("pixels were read"))
    (record,) = scan(tmp_path / "a.zarr").records
    assert (record.height, record.width, record.channels, record.dtype) == (20, 30, 1, "uint8")


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "group.zarr", mode="w")
    with pytest.raises(DataError, match="says nothing of images"):
        scan(tmp_path / "group.zarr")
    store(tmp_path / "line.zarr", np.arange(5))
    with pytest.raises(DataError, match="at least rows and columns"):
        scan(tmp_path / "line.zarr")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    with pytest.raises(DataError, match="damaged or not a zarr image"):
        scan(tmp_path / "broken.zarr")


def test_a_broken_chunk_is_a_data_error(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", RNG.integers(0, 255, (20, 30), np.uint8))
    plane = ZarrFile(tmp_path / "a.zarr").plane(0)
    for chunk in (tmp_path / "a.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="damaged or not a zarr image"):
        plane[0:20, 0:30]


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    store(tmp_path / "a.zarr", RNG.integers(0, 255, (20, 30, 3), np.uint8))
    with pytest.raises(DataError, match="it has no channel 3, but channels 0 to 2"):
        scan(tmp_path / "a.zarr", channels=[3])


def test_a_lazy_plane_is_indexed_like_an_array() -> None:
    pixels = RNG.integers(0, 255, (3, 20, 4, 30), np.uint8)  # c y z x
    plane = LazyPlane(pixels, ("c", "y", 2, "x"), (2, 0))
    whole = pixels[[2, 0], :, 2].transpose(1, 2, 0)
    assert plane.shape == whole.shape
    np.testing.assert_array_equal(np.asarray(plane), whole)
    for key in np.s_[3:5, 6:7], np.s_[3, 6:7], np.s_[3:5, 6, 1], np.s_[:, 2:9, 1:2], np.s_[4, 5, 0]:
        np.testing.assert_array_equal(plane[key], whole[key])
