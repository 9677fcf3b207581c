"""Labels of a project: only changed chunks are written, nothing half-written is ever read, snapshots go back."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import zarr

from napari_affmae.card import ClassInfo
from napari_affmae.data.label_array import CHUNK, LabelArray
from napari_affmae.data.project_folder import ImageEntry, ProjectFile, ProjectSettings, is_project, read_project, write_project
from napari_affmae.data.snapshots import find_snapshot, restore_snapshot, snapshots, take_snapshot
from napari_affmae.errors import StorageError

CLASSES = (ClassInfo(id=1, name="background", color="#0072b2"), ClassInfo(id=7, name="membrane", color="#e69f00"))
SHAPES = [(40, 50), (2 * CHUNK + 3, 3 * CHUNK - 1), (3, CHUNK + 1, 20), (2, 3, 30, 40)]


def random_labels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 3, shape, np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_come_back_and_are_ome_zarr(tmp_path, shape):
    labels = random_labels(shape)
    folder = tmp_path / "a.ome.zarr"
    LabelArray(folder, "paint").write(labels, None, CLASSES)
    LabelArray(folder, "segmentation").write(labels, None, CLASSES)
    np.testing.assert_array_equal(LabelArray(folder, "paint").read(), labels)
    group = zarr.open_group(folder / "labels", mode="r")
    assert group.attrs["ome"]["labels"] == ["paint", "segmentation"]
    ome = group["paint"].attrs["ome"]
    [scale] = ome["multiscales"]
    assert [axis["name"] for axis in scale["axes"]] == list("tzyx")[-len(shape) :]
    assert ome["image-label"]["properties"][1] == {"label-value": 7, "class": "membrane"}
    assert group["paint"].metadata.zarr_format == 3


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "labels" / "paint" / "0" / "c").rglob("*") if path.is_file()}


def test_only_changed_chunks_are_written(tmp_path):
    labels = random_labels((4 * CHUNK, 4 * CHUNK))
    array = LabelArray(tmp_path / "a", "paint")
    assert array.write(labels) == 16
    assert array.write(labels) == 0
    before = files_of(tmp_path / "a")
    labels[CHUNK - 1 : CHUNK + 1, 5] += 1
    stroke = (slice(CHUNK - 1, CHUNK + 1), slice(5, 6))
    assert array.write(labels, [stroke]) == 2
    changed = [path for path, time in files_of(tmp_path / "a").items() if before[path] != time]
    assert len(changed) == 2
    fresh = LabelArray(tmp_path / "a", "paint")
    labels[0, 0] += 1
    assert fresh.write(labels) == 1, "what is on disk is known without having been read before"
    np.testing.assert_array_equal(LabelArray(tmp_path / "a", "paint").read(), labels)


def test_what_is_painted_while_a_chunk_is_written_goes_along_next_time(tmp_path, monkeypatch):
    labels = random_labels((40, 50))
    array = LabelArray(tmp_path / "a", "paint")
    array.write(labels)
    labels[0, 0] += 1
    write = zarr.Array.__setitem__

    def paint_meanwhile(*given):
        write(*given)
        labels[5, 5] += 1

    monkeypatch.setattr(zarr.Array, "__setitem__", paint_meanwhile)
    assert array.write(labels) == 1
    monkeypatch.undo()
    assert array.write(labels) == 1
    np.testing.assert_array_equal(LabelArray(tmp_path / "a", "paint").read(), labels)


def test_a_region_that_leaves_the_image_is_cut(tmp_path):
    labels = random_labels((40, 50))
    array = LabelArray(tmp_path / "a", "paint")
    assert array.write(labels, [(slice(-3, 1000), slice(45, 60))]) == 1


def test_erased_paint_stays_erased_and_takes_no_room(tmp_path):
    labels = random_labels((CHUNK, 2 * CHUNK))
    array = LabelArray(tmp_path / "a", "paint")
    array.write(labels)
    array.write(labels * 0)
    assert not LabelArray(tmp_path / "a", "paint").read().any()
    assert not files_of(tmp_path / "a")


def test_nothing_is_made_for_an_image_without_paint(tmp_path):
    assert LabelArray(tmp_path / "a", "paint").write(np.zeros((4, 4), np.uint8)) == 0
    assert not (tmp_path / "a").exists()
    assert LabelArray(tmp_path / "a", "paint").read() is None


def test_counts_are_per_plane(tmp_path):
    labels = np.zeros((3, CHUNK + 5, 20), np.uint8)
    labels[1, 0, :4] = 1
    labels[1, CHUNK + 1, :3] = 1
    labels[2, 3, :2] = 5
    array = LabelArray(tmp_path / "a", "paint")
    array.write(labels)
    assert array.plane_counts() == {(1,): {1: 7}, (2,): {5: 2}, (0,): {}}
    again = LabelArray(tmp_path / "a", "paint")
    again.read()
    assert again.plane_counts() == array.plane_counts()
    np.testing.assert_array_equal(again.read_plane((1,)), labels[1])
    assert again.read_plane(()) is None
    assert again.read_plane((3,)) is None


def test_paint_of_another_size_is_set_aside(tmp_path):
    before = random_labels((30, 40))
    LabelArray(tmp_path / "a", "paint").write(before)
    array = LabelArray(tmp_path / "a", "paint")
    array.write(random_labels((50, 60)))
    assert array.read().shape == (50, 60)
    [aside] = [path for path in (tmp_path / "a" / "labels").iterdir() if path.name.startswith("paint-30x40")]
    np.testing.assert_array_equal(zarr.open_array(aside / "0", mode="r")[...], before)


def test_relabelling_is_undone_where_nothing_came_after(tmp_path):
    labels = random_labels((CHUNK + 9, 30))
    array = LabelArray(tmp_path / "a", "paint")
    array.write(labels)
    places = array.relabel(1, 2)
    assert set(np.unique(array.read())) == {0, 2}
    changed = array.read()
    row, column = np.argwhere(labels == 1)[0]
    changed[row, column] = 0
    array.write(changed)
    array.restore(places, 1, 2)
    labels[row, column] = 0
    np.testing.assert_array_equal(LabelArray(tmp_path / "a", "paint").read(), labels)


def test_damaged_labels_say_what_to_do(tmp_path):
    LabelArray(tmp_path / "a", "paint").write(random_labels((30, 40)))
    (tmp_path / "a" / "labels" / "paint" / "0" / "zarr.json").write_text("{")
    with pytest.raises(StorageError, match="restore a snapshot"):
        LabelArray(tmp_path / "a", "paint").read()


def test_a_damaged_chunk_that_is_to_be_written_is_said(tmp_path):
    LabelArray(tmp_path / "a", "paint").write(random_labels((64, 64)))
    chunk = tmp_path / "a" / "labels" / "paint" / "0" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(StorageError, match="could not be saved"):
        LabelArray(tmp_path / "a", "paint").write(random_labels((64, 64), 1))


def test_labels_that_cannot_be_written_say_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another project folder"):
        LabelArray(tmp_path / "file" / "a", "paint").write(random_labels((3, 4)))


def test_states_follow_what_is_known():
    entry = ImageEntry(labels="labels/a")
    assert entry.state == "unlabelled"
    painted = entry.updated(pixels={1: 5})
    assert painted.state == "painted"
    predicted = painted.updated(predicted=True)
    assert predicted.state == "predicted"
    accepted = predicted.updated(accepted=True)
    assert accepted.updated(pixels={1: 9}).state == "accepted"
    assert accepted.updated(accepted=False).state == "predicted"
    assert painted.updated(pixels={}).state == "unlabelled"


def test_the_project_comes_back(tmp_path):
    assert not is_project(tmp_path)
    assert read_project(tmp_path) == ProjectFile()
    project = ProjectFile(source="/images", classes=CLASSES, settings=ProjectSettings(image="a.png", brush=7))
    project = project.model_copy(update={"images": {"a.png": ImageEntry(labels="labels/a", pixels={7: 3}, state="painted")}})
    write_project(tmp_path, project)
    assert is_project(tmp_path)
    assert read_project(tmp_path) == project
    assert json.loads((tmp_path / "project.json").read_text())["images"]["a.png"]["state"] == "painted"
    assert os.listdir(tmp_path) == ["project.json"]
    (tmp_path / "project.json").write_text('{"classes": 3}')
    with pytest.raises(StorageError, match="restore a snapshot"):
        read_project(tmp_path)


def test_what_two_windows_change_is_kept_of_both():
    def entry(name, pixels):
        return ImageEntry(labels=f"labels/{name}", pixels={1: pixels})

    before = ProjectFile(images={name: entry(name, 1) for name in "abc"}, source="s", layers={"a": "x"})
    ours = before.replace(images={**before.images, "a": entry("a", 2), "mine": entry("mine", 3)}, classes=CLASSES)
    there = before.replace(
        images={"a": entry("a", 9), "b": entry("b", 4), "theirs": entry("theirs", 5)}, source="t", layers={"a": "x", "b": "y"}
    )
    both = ours.beside(there, before)
    counts = {name: one.pixels[1] for name, one in both.images.items()}
    assert counts == {"a": 2, "b": 4, "theirs": 5, "mine": 3}, "what only they changed or took away is theirs"
    assert (both.classes, both.source, both.layers) == (tuple(CLASSES), "t", {"a": "x", "b": "y"})
    assert ours.beside(before, before) == ours
    less = before.replace(images={"b": before.images["b"]})
    assert set(less.beside(there, before).images) == {"b", "theirs"}, "what we took away does not come back"


def test_every_image_has_labels_of_its_own():
    project = ProjectFile()
    names = ["a/b.png", "a__b.png", "a%2Fb.png", "stack.tif[3]", "ü 1.png"]
    folders = {project.labels_of(name) for name in names}
    assert len(folders) == len(names)
    assert all(folder.count("/") == 1 for folder in folders)


@pytest.mark.parametrize("name", ["実験" * 20 + ".tif", "Образец/срез " * 4 + ".tif", "a/" * 99], ids=["a", "b", "c"])
def test_paint_of_an_image_with_a_long_name_is_saved_and_is_its_own(tmp_path, name):
    project = ProjectFile()
    others = [name + "2", *(name[:place] + "ß" + name[place + 1 :] for place in range(len(name)))]
    assert len({project.labels_of(one) for one in [name, *others]}) == len(others) + 1
    LabelArray(tmp_path / project.labels_of(name), "paint").write(random_labels((30, 40)))


@pytest.fixture
def painted(tmp_path):
    """A project with one painted image."""
    project = ProjectFile(classes=CLASSES)
    where = project.labels_of("a.png")
    project = project.model_copy(update={"images": {"a.png": ImageEntry(labels=where).updated(pixels={1: 12})}})
    write_project(tmp_path, project)
    LabelArray(tmp_path / where, "paint").write(random_labels((30, 40)))
    (tmp_path / "model.safetensors").write_bytes(b"first")
    return tmp_path


def paint_of(folder):
    return LabelArray(folder / read_project(folder).images["a.png"].labels, "paint").read()


def test_a_snapshot_brings_labels_classes_and_model_back(painted):
    model = painted / "model.safetensors"
    first = take_snapshot(painted, model, "first")
    assert first.pixels == 12
    project = read_project(painted)
    LabelArray(painted / project.images["a.png"].labels, "paint").write(random_labels((30, 40), seed=1))
    write_project(painted, ProjectFile(**{**dict(project), "classes": CLASSES[:1]}))
    newer = painted / "newer"
    newer.write_bytes(b"second")
    os.replace(newer, model)
    restored = restore_snapshot(painted, first, model)
    assert restored.read_bytes() == b"first"
    assert read_project(painted).classes == CLASSES
    np.testing.assert_array_equal(paint_of(painted), random_labels((30, 40)))
    [before, again] = snapshots(painted)
    assert again.path == first.path
    assert "before going back" in before.reason
    assert restore_snapshot(painted, before, restored).read_bytes() == b"second", "going back can be undone"
    np.testing.assert_array_equal(paint_of(painted), random_labels((30, 40), seed=1))
    assert read_project(painted).classes == CLASSES[:1]


def test_painting_on_leaves_a_snapshot_as_it_is(painted):
    first = take_snapshot(painted)
    array = LabelArray(painted / read_project(painted).images["a.png"].labels, "paint")
    array.write(random_labels((30, 40), seed=1))
    array.write(np.zeros((30, 40), np.uint8))
    np.testing.assert_array_equal(paint_of(first.path), random_labels((30, 40)))


def test_a_snapshot_is_found_by_name(painted):
    first = take_snapshot(painted)
    second = take_snapshot(painted)
    assert first.path != second.path
    assert find_snapshot(painted, second.path.name) == second
    with pytest.raises(StorageError, match="there are"):
        find_snapshot(painted, "nonsense")
