"""Results come back as they were written, with their pixel size, and never half or over something else."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_affmae.card import ClassInfo, PixelSize
from napari_affmae.data.scan import scan
from napari_affmae.data.write import place_whole, remove_remains, write_labels_tiff
from napari_affmae.errors import StorageError

RNG = np.random.default_rng(0)
NM = PixelSize(y=8, x=4, unit="nanometer")
CLASSES = (ClassInfo(id=1, name="membrane", color="#e69f00"), ClassInfo(id=3, name="rest", color="#0072b2"))


@pytest.mark.parametrize(
    ("most", "dtype"), [(1, "uint8"), (255, "uint8"), (256, "uint16"), (65_535, "uint16"), (70_000, "uint32")]
)
@pytest.mark.parametrize("pixel_size", [None, NM, PixelSize(y=1.5, x=1.5, unit="micrometer")])
def test_label_tiff(tmp_path: Path, most: int, dtype: str, pixel_size: PixelSize | None) -> None:
    labels = RNG.integers(0, most + 1, (20, 30))
    labels[0, 0] = most
    path = write_labels_tiff(tmp_path / "deep" / "labels.tif", labels, pixel_size)
    collection = scan(path)
    pixels = collection.records[0].read()[..., 0]
    np.testing.assert_array_equal(pixels, labels)
    assert pixels.dtype == dtype
    if pixel_size is None:
        assert collection.pixel_size is None
    else:
        assert collection.pixel_size is not None
        assert collection.pixel_size.nanometres() == pytest.approx(pixel_size.nanometres(), rel=1e-4)


@pytest.mark.parametrize("shape", [(20, 30), (1100, 700), (1, 600)])
@pytest.mark.parametrize("channels", [0, 3])
def test_ome_zarr(tmp_path: Path, write_zarr: Callable[..., Path], shape: tuple[int, int], channels: int) -> None:
    image = RNG.integers(0, 256, (*shape, channels) if channels else shape, dtype=np.uint8)
    labels = RNG.choice([1, 3], shape)
    probabilities = RNG.random((2, *shape), np.float32)
    path = write_zarr(tmp_path / "a.ome.zarr", image, labels, CLASSES, probabilities=probabilities, pixel_size=NM)
    root = zarr.open_group(path, mode="r")
    assert root.metadata.zarr_format == 3
    planes = np.moveaxis(image, -1, 0) if channels else image[None]
    np.testing.assert_array_equal(root["0"][...], planes)
    np.testing.assert_array_equal(root["labels/segmentation/0"][...], labels)
    np.testing.assert_array_equal(root["probabilities/0"][...], probabilities)
    assert root["labels"].attrs["ome"]["labels"] == ["segmentation"]
    ome = root["labels/segmentation"].attrs["ome"]
    assert ome["version"] == "0.5"
    assert ome["image-label"]["colors"][0] == {"label-value": 1, "rgba": [230, 159, 0, 255]}
    assert ome["image-label"]["properties"][1] == {"label-value": 3, "class": "rest"}
    for group, names in ((root, "cyx"), (root["labels/segmentation"], "yx"), (root["probabilities"], "cyx")):
        (multiscale,) = group.attrs["ome"]["multiscales"]
        assert [axis["name"] for axis in multiscale["axes"]] == list(names)
        assert multiscale["axes"][-1] == {"name": "x", "type": "space", "unit": "nanometer"}
        for dataset in multiscale["datasets"]:
            scale = dataset["coordinateTransformations"][0]["scale"]
            array = group[dataset["path"]]
            assert scale[-2:] == [8 * 2 ** int(dataset["path"]), 4 * 2 ** int(dataset["path"])]
            assert [round(side * 2 ** int(dataset["path"])) for side in array.shape[-2:]] == pytest.approx(shape, abs=3)
            assert array.metadata.dimension_names == tuple(names)
        assert max(group[multiscale["datasets"][-1]["path"]].shape[-2:]) <= 512 or min(shape) == 1
    json.loads((path / "zarr.json").read_text())


def test_coarser_scales_lie_where_their_metadata_say(tmp_path: Path, write_zarr: Callable[..., Path]) -> None:
    # A ramp: intensity is the column's position, so scale and translation must predict it at every level.
    image = np.broadcast_to(np.arange(1200, dtype=np.float32), (600, 1200))
    labels = np.broadcast_to(np.arange(1200, dtype=np.uint16), (600, 1200))
    classes = (CLASSES[0], CLASSES[1].replace(id=1199))
    root = zarr.open_group(write_zarr(tmp_path / "a.ome.zarr", image, labels, classes, pixel_size=NM), mode="r")
    for group in (root, root["labels/segmentation"]):
        datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
        assert len(datasets) == 3
        for dataset in datasets:
            scale, translation = (step[step["type"]][-1] for step in dataset["coordinateTransformations"])
            values = group[dataset["path"]][...].reshape(-1, group[dataset["path"]].shape[-1])[0]
            np.testing.assert_allclose(values * NM.x, np.arange(len(values)) * scale + translation)


@pytest.mark.parametrize("kind", ["tiff", "zarr"])
def test_nothing_is_overwritten_unless_told(tmp_path: Path, write_zarr: Callable[..., Path], kind: str) -> None:
    name = {"tiff": "a.tif", "zarr": "a.ome.zarr"}[kind]

    def write(value: int, overwrite: bool) -> Path:
        labels = np.full((20, 30), value, np.uint8)
        if kind == "tiff":
            return write_labels_tiff(tmp_path / name, labels, overwrite=overwrite)
        return write_zarr(tmp_path / name, labels, labels, overwrite=overwrite)

    def value_of(path: Path) -> int:
        return int(tifffile.imread(path)[0, 0]) if kind == "tiff" else int(zarr.open_group(path, mode="r")["0"][0, 0, 0])

    path = write(1, overwrite=False)
    with pytest.raises(StorageError, match="is there already; choose another name or allow"):
        write(2, overwrite=False)
    assert value_of(path) == 1
    assert value_of(write(3, overwrite=True)) == 3
    assert [item.name for item in tmp_path.iterdir()] == [name]


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    target.write_text("before")

    def fill(place: Path) -> None:
        place.write_text("half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"cannot write .*a\.tif: No space left on device; free some space"):
        place_whole(target, fill, overwrite=True)
    assert target.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["a.tif"]


def test_a_full_disk_in_the_middle_of_a_zarr(
    tmp_path: Path, write_zarr: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_zarr(tmp_path / "a.ome.zarr", np.zeros((9, 9)), np.zeros((9, 9), int))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot write .*file is a file, not a folder; choose another folder"):
        write_labels_tiff(tmp_path / "file" / "a.tif", np.zeros((3, 3), int))


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    target.mkdir()
    (target / "kept").write_text("before")
    with pytest.raises(StorageError, match="nothing was changed"):
        place_whole(target, lambda place: None, overwrite=True)  # there is nothing to move into its place
    assert (target / "kept").read_text() == "before"


def test_what_killed_processes_left_is_removed_and_each_folder_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [tmp_path / name for name in (*(f"{number}[a].tif" for number in range(20)), "sub/a.tif", "missing/a.tif")]
    strangers = {tmp_path / name for name in (".hidden", ".0[a].tif", ".0[a].tif.more.abc", "sub/.0[a].tif.abc")}
    for folder in (*strangers, *(tmp_path / name for name in (".7[a].tif.x_9", ".7[a].tif.abc", "sub/.a.tif.abc"))):
        folder.mkdir(parents=True)
    remove_remains(ours)
    assert set(tmp_path.rglob(".*")) == strangers
    listed: list[object] = []
    for function in ("scandir", "listdir"):
        call = getattr(os, function)
        monkeypatch.setattr(os, function, lambda path, call=call: listed.append(path) or call(path))
    remove_remains(ours)
    assert len(listed) <= 3
