"""Folders, lists and layers become collections; what is left out is listed with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_affmae.card import PixelSize
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays, scan
from napari_affmae.errors import DataError

RNG = np.random.default_rng(0)

TO_GREY = "move it to another folder or convert it to grey"


def write(path: Path, shape: tuple[int, ...] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(path)


def names(collection: ImageCollection) -> list[str]:
    return [record.name for record in collection.records]


def test_subfolders_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.TIF", "deep/er/c.Jpeg", ".hidden.png", ".trash/d.png"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    collection = scan(tmp_path)
    assert names(collection) == ["a.TIF", "b.png", "deep/er/c.Jpeg"]
    assert collection.ignored == 2
    assert collection.skipped == ()
    assert collection.describe() == "3 images, 20 × 30 pixels; 1 channel, uint8; pixel size not stated; 2 other files ignored"


def test_sizes_beyond_the_third_are_counted() -> None:
    four, five = (collection_from_arrays({str(side): RNG.random((side, 9)) for side in range(1, end)}) for end in (5, 6))
    assert "1 of 3 × 9 pixels and 1 more size;" in four.describe()
    assert "1 of 3 × 9 pixels and 2 more sizes;" in five.describe()


def test_links_that_go_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png")
    write(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images", target_is_directory=True)
    (tmp_path / "images" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "images", target_is_directory=True)
    (tmp_path / "images" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    collection = scan(tmp_path / "images")
    assert names(collection) == ["a.png", "more/b.png"]
    assert [(item.name, item.reason) for item in collection.skipped] == [("gone.png", "the file is not there (any more)")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert scan(tmp_path).skipped[0].reason == "not a regular file"


def test_a_single_file(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    assert names(scan(tmp_path / "a.png")) == ["a.png"]
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"a\.txt is no image .* PNG, JPEG, TIFF or OME-Zarr"):
        scan(tmp_path / "a.txt")


def test_the_majority_of_channel_counts_wins(tmp_path: Path) -> None:
    for name, shape in (("a", (20, 30)), ("b", (20, 30, 3)), ("c", (20, 30))):
        write(tmp_path / f"{name}.png", shape)
    collection = scan(tmp_path)
    assert names(collection) == ["a.png", "c.png"]
    assert collection.skipped[0].name == "b.png"
    assert collection.skipped[0].reason == f"it has 3 channels, but most images have 1 channel; {TO_GREY}"


def test_where_most_images_have_several_channels_some_can_be_chosen(tmp_path: Path) -> None:
    for name, shape in (("a", (20, 30, 3)), ("b", (20, 30)), ("c", (20, 30, 3))):
        write(tmp_path / f"{name}.png", shape)
    [skipped] = scan(tmp_path).skipped
    assert skipped.reason == "it has 1 channel, but most images have 3 channels; choose channels that all have"
    assert len(scan(tmp_path, channels=[0])) == 3


def test_a_tie_of_channel_counts_is_called_one(tmp_path: Path) -> None:
    write(tmp_path / "a.png", (20, 30))
    write(tmp_path / "b.png", (20, 30, 3))
    collection = scan(tmp_path)
    assert names(collection) == ["a.png"]
    assert collection.skipped[0].reason == (
        f"it has 3 channels, but the images that are taken have 1 channel, as many others have; {TO_GREY}"
    )


def test_chosen_channels(tmp_path: Path) -> None:
    write(tmp_path / "a.png", (20, 30, 3))
    write(tmp_path / "b.png", (20, 30))
    whole = np.asarray(Image.open(tmp_path / "a.png"))
    collection = scan(tmp_path, channels=[2, 0])
    assert names(collection) == ["a.png"]
    assert collection.skipped[0].reason == "it has no channel 2, but only channel 0"
    np.testing.assert_array_equal(collection.records[0].read(), whole[..., [2, 0]])
    assert len(scan(tmp_path, channels=[0])) == 2, "choosing a channel makes grey and colour fit together"
    with pytest.raises(DataError, match="choose at least one"):
        scan(tmp_path, channels=[])
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: it has no channel 3, but only channel 0\); .* leave --channels away"):
        scan(tmp_path, channels=[3])


def test_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        scan(tmp_path / "missing")
    with pytest.raises(DataError, match=r"no images in .*, it is empty: choose a folder of PNG, JPEG, TIFF or OME-Zarr images"):
        scan(tmp_path)
    for index in range(5):
        (tmp_path / f"{index}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable image .*0\.png: the file is empty.*2\.png.*and 2 more.*choose others"):
        scan(tmp_path)


def test_progress_counts_files_and_can_end_the_scan(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / f"{index}.png")
    seen: list[tuple[int, int]] = []
    scan(tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]

    def enough(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, on_progress=enough)


@pytest.mark.parametrize("listed", ["b.png\nsub/c.png\n", "# chosen\n\nb\nsub/c\r\n", "b.png\nc\n./b.png\n", "sub\\c.png\nb"])
def test_lists_of_names(tmp_path: Path, listed: str) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        write(tmp_path / name)
    (tmp_path / "list.txt").write_bytes(listed.encode())
    assert sorted(names(scan(tmp_path, files="list.txt"))) == ["b.png", "sub/c.png"]


@pytest.mark.parametrize("listed", ["a\nb\nsub/c", "a.ome\nb.ome\nc.ome", "a.ome.tif\nb.ome.zarr\nc"])
def test_a_listed_name_may_lack_a_suffix_of_two_parts(tmp_path: Path, write_zarr: Callable[..., Path], listed: str) -> None:
    pixels = RNG.integers(0, 9, (20, 30), dtype=np.uint8)
    (tmp_path / "sub").mkdir()
    for name in ("a.ome.tif", "sub/c.ome.tiff"):
        tifffile.imwrite(tmp_path / name, pixels)
    write_zarr(tmp_path / "b.ome.zarr", pixels, pixels)
    (tmp_path / "list.txt").write_text(listed)
    assert names(scan(tmp_path, files="list.txt")) == ["a.ome.tif", "b.ome.zarr", "sub/c.ome.tiff"]


def test_slices_of_a_stack_are_no_images() -> None:
    single, stack = RNG.random((20, 30)), RNG.random((5, 20, 30))
    assert collection_from_arrays({"z": stack}).contents == "1 stack of 5 slices"
    assert collection_from_arrays({"a": single, "z": stack}).contents == "1 image and 1 stack of 5 slices"
    both = collection_from_arrays({"a": single, "b": single + 1, "y": stack, "z": stack + 1})
    assert both.contents == "2 images and 2 stacks, 10 slices"
    assert both.describe().startswith("2 images and 2 stacks, 10 slices, 20 × 30 pixels; ")


def test_a_listed_stack_brings_all_its_pages(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "s.tif", RNG.integers(0, 9, (4, 20, 30), dtype=np.uint8), photometric="minisblack")
    write(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("s.tif")
    assert len(scan(tmp_path, files="list.txt")) == 4


def test_split_tables_are_found_here_there_and_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / "data" / "images" / name)
    table = "file,split\na.png,train\nb.png,train\nc.png,test\ngone.png,train\nc.png,training\n"
    (tmp_path / "data" / "split.csv").write_text(table)
    images = tmp_path / "data" / "images"
    collection = scan(images, files="split.csv:train")
    assert names(collection) == ["a.png", "b.png"]
    assert [(item.name, item.reason) for item in collection.skipped] == [("gone.png", "in the list, but not in the folder")]
    assert names(scan(images, files=f"{tmp_path / 'data' / 'split.csv'}:test")) == ["c.png"]
    monkeypatch.chdir(tmp_path)
    assert names(scan("data/images", files="data/split.csv:test")) == ["c.png"]
    assert len(scan(images, files="split.csv")) == 3
    monkeypatch.chdir(images)
    assert names(scan(".", files="split.csv:test")) == ["c.png"]
    with pytest.raises(DataError, match=r"has no split 'validation'; it has train, test, training"):
        scan(images, files="split.csv:validation")
    with pytest.raises(DataError, match=r"nosuch\.csv is not there; looked for"):
        scan(images, files="nosuch.csv:train")


@pytest.mark.parametrize(
    "table",
    ["subset,Image\ntest,a.png\ntrain,b.png\n", "a.png,test\nb.png,train\n", "\ufeffname,x,set\na.png,1,test\nb.png,2,train\n"],
)
def test_split_tables_of_other_shapes(tmp_path: Path, table: str) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / name)
    (tmp_path / "split.csv").write_text(table, encoding="utf-8")
    assert names(scan(tmp_path, files="split.csv:test")) == ["a.png"]


def test_lists_that_say_nothing_or_too_little(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/a.png"):
        write(tmp_path / name)
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    with pytest.raises(DataError, match="names no files"):
        scan(tmp_path, files="empty.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="cannot read the file list"):
        scan(tmp_path, files="binary.txt")
    (tmp_path / "twice.txt").write_text("a.png\nx/a.png\n")
    collection = scan(tmp_path, files="twice.txt")
    assert names(collection) == ["x/a.png"]
    assert collection.skipped[0].reason == "the list means one file, but 2 fit: x/a.png, y/a.png"


def test_open_layers() -> None:
    size = PixelSize(y=4, x=4, unit="nanometer")
    plane, stack = RNG.random((20, 30)), RNG.integers(0, 9, (2, 3, 20, 30))
    collection = collection_from_arrays(
        {"plane": plane, "stack": stack, "flat": np.ones((20, 30)), "line": np.arange(9)}, pixel_size=size
    )
    assert names(collection) == ["plane", *(f"stack[{i},{j}]" for i in range(2) for j in range(3))]
    assert collection.pixel_size == size
    np.testing.assert_array_equal(collection.records[5].read()[..., 0], stack[1, 1])
    assert [item.name for item in collection.skipped] == ["flat", "line"]
    rgba = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    collection = collection_from_arrays({"colours": rgba}, rgb=True)
    np.testing.assert_array_equal(collection.records[0].read(), rgba[..., :3])
    with pytest.raises(DataError, match=r"no usable image in the open layers \(flat: constant"):
        collection_from_arrays({"flat": np.zeros((20, 30))})


def test_lazy_layers_are_read_when_needed() -> None:
    dask_array = pytest.importorskip("dask.array")
    stack = RNG.random((3, 20, 30))
    collection = collection_from_arrays({"lazy": dask_array.from_array(stack, chunks=(1, 20, 30))})
    np.testing.assert_array_equal(collection.records[2].read()[..., 0], stack[2])
    assert not isinstance(collection.records[2].array, np.ndarray)


def test_bool_layers_become_numbers() -> None:
    mask = RNG.random((20, 30)) > 0.5
    (record,) = collection_from_arrays({"mask": mask}).records
    assert (record.dtype, record.read().max()) == ("uint8", 1)
