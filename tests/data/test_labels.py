"""Labels find their images, keep their ids, and say what is wrong with them."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_affmae.card import ClassInfo
from napari_affmae.data.labels import (
    LabelledImage,
    class_table,
    default_classes,
    ids_in,
    pair_labels,
    places_by_name,
    to_foreground,
    to_targets,
)
from napari_affmae.data.records import ImageRecord
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.errors import DataError, LabelError

RNG = np.random.default_rng(0)
SHAPE = (20, 30)


def example(labels: np.ndarray) -> LabelledImage:
    (record,) = collection_from_arrays({"a": RNG.integers(0, 99, labels.shape)}).records
    return LabelledImage(record, labels)


def write_image(path: Path, shape: tuple[int, ...] = SHAPE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(path)


def write_labels(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, ids)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, ids, photometric="minisblack")
    else:
        Image.fromarray(ids).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    return tmp_path / "images", tmp_path / "labels"


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", "uint8"), (".png", "uint16"), (".tif", "int32"), (".tif", "float32"), (".npy", "int64"), (".npy", "bool")],
)
def test_labels_are_matched_by_stem_whatever_their_suffix(folders: tuple[Path, Path], suffix: str, dtype: str) -> None:
    images, labels = folders
    ids = {name: RNG.integers(0, 2 if dtype == "bool" else 5, SHAPE).astype(dtype) for name in ("a", "sub/a", "sub/b.c")}
    for name, plane in ids.items():
        write_image(images / f"{name}.png")
        write_labels(labels / f"{name}{suffix}", plane)
    examples, skipped = pair_labels(images, labels)
    assert [item.name for item in examples] == ["a.png", "sub/a.png", "sub/b.c.png"]
    assert not skipped
    for item, plane in zip(examples, ids.values(), strict=True):
        np.testing.assert_array_equal(item.labels, plane)
        assert item.labels.dtype.kind in "ui"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ome.tif", ".OME.TIFF", ".zarr", ".ome.zarr"])
@pytest.mark.parametrize("labels_suffix", [".png", ".npy", ".ome.tif"])
def test_a_suffix_may_be_of_two_parts(
    folders: tuple[Path, Path], write_zarr: Callable[..., Path], suffix: str, labels_suffix: str
) -> None:
    images, labels = folders
    image, ids = RNG.integers(0, 99, SHAPE, dtype=np.uint8), RNG.integers(0, 3, SHAPE, dtype=np.uint8)
    if "zarr" in suffix:
        write_zarr(images / "a.b.ome.zarr", image, ids).rename(images / f"a.b{suffix}")
    elif suffix == ".png":
        write_image(images / f"a.b{suffix}")
    else:
        tifffile.imwrite(images / f"a.b{suffix}", image)
    write_labels(labels / f"a.b{labels_suffix}", ids)
    for where in (labels, labels / f"a.b{labels_suffix}"):
        np.testing.assert_array_equal(pair_labels(images, where)[0][0].labels, ids)


def test_stacks_are_matched_page_by_page(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    ids = RNG.integers(0, 3, (4, *SHAPE), dtype=np.uint8)
    tifffile.imwrite(images / "s.tif", RNG.integers(0, 99, (4, *SHAPE), dtype=np.uint8), photometric="minisblack")
    write_labels(labels / "s.tif", ids)
    examples, _ = pair_labels(images, labels)
    np.testing.assert_array_equal(np.stack([item.labels for item in examples]), ids)
    write_labels(labels / "s.tif", ids[:3])
    examples, skipped = pair_labels(images, labels)
    assert len(examples) == 3
    assert skipped[0].reason == "its labels are a stack of 3, which does not fit page 3 of the image"
    write_image(images / "t.png")
    write_labels(labels / "t.tif", ids)
    assert "stack of 4" in pair_labels(images, labels)[1][-1].reason


def test_a_stack_of_labels_has_no_more_pages_than_its_image(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    pages = RNG.integers(0, 99, (5, *SHAPE), dtype=np.uint8)
    pages[4] = 7
    tifffile.imwrite(images / "s.tif", pages, photometric="minisblack")
    write_labels(labels / "s.tif", RNG.integers(0, 3, (5, *SHAPE), dtype=np.uint8))
    assert len(pair_labels(images, labels)[0]) == 4, "of what is left out of the stack there may be labels"
    write_labels(labels / "s.tif", RNG.integers(0, 3, (7, *SHAPE), dtype=np.uint8))
    with pytest.raises(LabelError, match=r"its labels are a stack of 7, but the image is one of 5; .* correct the labels"):
        pair_labels(images, labels)
    write_image(images / "t.png")
    write_labels(labels / "t.png", np.eye(*SHAPE, dtype=np.uint8))
    assert [item.name for item in pair_labels(images, labels)[1]] == [f"s.tif[{page}]" for page in (4, 0, 1, 2, 3)]


def test_two_single_files(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    write_image(images / "a.png")
    write_labels(labels / "other name.npy", np.eye(*SHAPE, dtype=np.uint8))
    assert len(pair_labels(images / "a.png", labels / "other name.npy")[0]) == 1


def test_what_cannot_be_used_is_listed_with_its_reason(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    for name in ("good", "unlabelled", "shape", "colours", "negative", "fraction", "twice", "broken", "unpainted"):
        write_image(images / f"{name}.png")
    write_labels(labels / "good.png", RNG.integers(0, 3, SHAPE, dtype=np.uint8))
    write_labels(labels / "shape.png", np.ones((30, 20), np.uint8))
    write_labels(labels / "colours.png", RNG.integers(0, 256, (*SHAPE, 3), dtype=np.uint8))
    write_labels(labels / "negative.npy", np.full(SHAPE, -1))
    write_labels(labels / "fraction.npy", np.full(SHAPE, 0.5))
    write_labels(labels / "twice.npy", np.ones(SHAPE, np.uint8))
    write_labels(labels / "twice.png", np.ones(SHAPE, np.uint8))
    (labels / "broken.npy").write_bytes(b"nothing")
    write_labels(labels / "unpainted.png", np.zeros(SHAPE, np.uint8))
    examples, skipped = pair_labels(images, labels, sparse=True)
    assert [item.name for item in examples] == ["good.png"]
    reasons = {item.name: item.reason for item in skipped}
    assert reasons["shape.png"].startswith("the image has 20 × 30 pixels, but its labels have 30 × 20")
    assert reasons["unlabelled.png"] == "no label file unlabelled.* among the labels"
    assert "save label ids, not colours" in reasons["colours.png"]
    assert "must not be negative, but the least is -1" in reasons["negative.png"]
    assert "must be whole numbers" in reasons["fraction.png"]
    assert reasons["twice.png"] == "2 label files fit: twice.npy, twice.png"
    assert "damaged" in reasons["broken.png"]
    assert reasons["unpainted.png"] == "its labels hold no paint"
    assert len(reasons) == 8


def test_grey_labels_saved_as_colours_are_ids_after_all(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    write_image(images / "a.png")
    ids = RNG.integers(0, 3, SHAPE, dtype=np.uint8)
    write_labels(labels / "a.png", np.stack([ids] * 3, axis=-1))
    np.testing.assert_array_equal(pair_labels(images, labels)[0][0].labels, ids)


def test_an_all_zero_label_file_of_a_dense_set_is_kept(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    write_image(images / "a.png")
    write_labels(labels / "a.png", np.zeros(SHAPE, np.uint8))
    assert len(pair_labels(images, labels)[0]) == 1, "a field without a single nucleus is an example too"


def test_nothing_left_is_an_error_that_says_why(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    with pytest.raises(DataError, match="no images in"):
        pair_labels(images, labels)
    write_image(images / "a.png")
    with pytest.raises(LabelError, match=r"a\.png: no label file a\.\* among the labels.*name each label file as its image"):
        pair_labels(images, labels)
    with pytest.raises(LabelError, match="nowhere is not there"):
        pair_labels(images, images / "nowhere")
    for name in ("b.png", "c.png", "d.png", "e.png"):
        write_image(images / name)
    with pytest.raises(LabelError, match=r"a\.png: .*c\.png: .*; and 2 more\)"):
        pair_labels(images, labels)
    write_labels(labels / "d.png", np.zeros((SHAPE[0] + 1, SHAPE[1]), np.uint8))
    with pytest.raises(LabelError, match=r"\(d\.png: the image has .*a\.png: no label file.*\): correct the labels"):
        pair_labels(images, labels)


def test_a_labelled_image_needs_labels_of_its_shape() -> None:
    (record,) = collection_from_arrays({"a": RNG.random(SHAPE)}).records
    with pytest.raises(LabelError, match="a: the image has 20 × 30 pixels, but its labels have 20 × 31; labels must have"):
        LabelledImage(record, np.zeros((20, 31), int))


def test_instances_become_two_classes() -> None:
    ids = np.array([0, 1, 2, 300])
    assert to_foreground(ids, sparse=False).tolist() == [0, 1, 1, 1]
    assert to_foreground(ids, sparse=True).tolist() == [0, 1, 2, 2]
    assert [c.name for c in default_classes([0, 1], foreground=True)] == ["background", "foreground"]
    assert [(c.id, c.name) for c in default_classes([1, 2], foreground=True)] == [(1, "background"), (2, "foreground")]
    assert [(c.id, c.name) for c in default_classes([1, 2])] == [(1, "class 1"), (2, "class 2")]
    assert [c.name for c in default_classes([2, 0, 1])] == ["class 0", "class 1", "class 2"]
    assert [c.name for c in default_classes([0, 1])] == ["class 0", "class 1"], "0 may be cells, and 1 their membranes"


def test_colours_differ_and_show_on_grey_and_black() -> None:
    colors = [info.color for info in default_classes(range(9))]
    assert len(set(colors)) == 9
    for color in colors:
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        assert max(red, green, blue) - min(red, green, blue) > 40, "not grey"
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue > 70, "not dark"


def test_class_tables() -> None:
    assert [c.id for c in class_table([example(np.arange(12).reshape(3, 4) % 3)], sparse=False)] == [0, 1, 2]
    assert [c.id for c in class_table([example(np.arange(12).reshape(3, 4) % 3)], sparse=True)] == [1, 2]
    assert [c.id for c in class_table([example(np.eye(4, dtype=np.uint8) * 255)], sparse=False)] == [0, 255]
    assert [c.id for c in class_table([example(np.eye(4, dtype=int))], sparse=False, num_classes=3)] == [0, 1, 2]
    assert ids_in([example(np.eye(4, dtype=int)), example(np.eye(4, dtype=int) * 7)], sparse=True) == [1, 7]


@pytest.mark.parametrize(
    ("labels", "sparse", "num_classes", "words"),
    [
        (np.zeros((4, 4), int), True, None, "nothing is painted; paint some pixels of at least two classes"),
        (np.eye(4, dtype=int), True, None, "only class 1 is painted; paint at least two classes"),
        (np.zeros((4, 4), int), False, None, "only class 0 is in the labels"),
        (np.arange(100).reshape(10, 10), False, None, "100 different ids.*foreground and background"),
        (np.arange(4).reshape(2, 2), False, 3, "expected 3 classes with ids 0 to 2, but the labels hold id 3; raise"),
        (np.arange(4).reshape(2, 2) + 1, True, 3, "expected 3 classes with ids 1 to 3, but the labels hold id 4; raise"),
    ],
)
def test_labels_that_make_no_table(labels: np.ndarray, sparse: bool, num_classes: int | None, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        class_table([example(labels)], sparse=sparse, num_classes=num_classes)


def table(*ids: int) -> tuple[ClassInfo, ...]:
    return tuple(ClassInfo(id=class_id, name=f"c{class_id}", color="#ffffff") for class_id in ids)


def test_targets_are_indices_of_the_table() -> None:
    labels = np.array([[0, 5, 2], [2, 0, 5]], np.uint16)
    assert to_targets(labels, table(5, 2), sparse=True).tolist() == [[-1, 0, 1], [1, -1, 0]]
    assert to_targets(labels, table(0, 2, 5), sparse=False).tolist() == [[0, 2, 1], [1, 0, 2]]
    assert to_targets(labels, table(0, 2, 5), sparse=False).dtype == np.int64


def test_a_class_0_is_not_taken_for_what_is_not_labelled() -> None:
    """Nobody can tell whether paint 1 on classes 0 and 1 means class 1, or the first, as paint counts them."""
    with pytest.raises(LabelError, match=r"the classes count from 0 \(c0\).*without --sparse"):
        to_targets(np.array([[0, 1]]), table(0, 1), sparse=True)


def test_classes_are_found_again_by_their_names() -> None:
    background, cell, spot = table(0, 1, 2)
    assert places_by_name([cell.replace(id=2), background.replace(id=255)], (background, cell)).tolist() == [1, 0]
    assert places_by_name([spot, cell], (cell, spot.replace(name="c1"), spot.replace(id=7))).tolist() == [2, 0], "same id"
    for theirs in (cell.replace(name="other"), cell.replace(id=9)):
        with pytest.raises(LabelError, match=rf"{theirs.id} \({theirs.name}\) of the labels is none of the model's"):
            places_by_name([theirs], (background, cell, spot.replace(name="c1")))


def test_a_few_strokes_on_a_large_image_take_little_more_memory_than_their_targets() -> None:
    labels = np.zeros((1000, 1000), np.uint8)
    labels[100:110, 100:400], labels[500:510, 100:400] = 1, 2
    tracemalloc.start()
    targets = to_targets(labels, table(1, 2), sparse=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * targets.nbytes


@pytest.mark.parametrize("sparse", [True, False])
def test_an_id_outside_the_table_is_refused(sparse: bool) -> None:
    ids = (1, 2) if sparse else (0, 1, 2)
    with pytest.raises(LabelError, match=r"hold id 7, but the classes are .*2 \(c2\); add the class"):
        to_targets(np.array([[1, 7]]), table(*ids), sparse=sparse)
    if not sparse:
        with pytest.raises(LabelError, match="hold id 0"):
            to_targets(np.array([[0, 1]]), table(1, 2), sparse=False)


@pytest.mark.parametrize("foreground", [False, True])
def test_images_are_no_labels_of_their_own(folders: tuple[Path, Path], foreground: bool) -> None:
    """Every pixel of a micrograph could be the number of an instance."""
    images, labels = folders
    for name in ("a.png", "b.png"):
        write_image(images / name)
        shutil.copy(images / name, labels / name)
    with pytest.raises(LabelError, match="are the images themselves: give the folder of their labels"):
        pair_labels(images, images, foreground=foreground)
    with pytest.raises(LabelError, match="its labels are a copy of the image"):
        pair_labels(images, labels, foreground=foreground)


def test_only_one_image_is_read_to_tell_labels_from_images(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Paint on one of very many images must not cost reading all the others."""
    images, labels = folders
    for name in ("a.png", "b.png", "c.png", "d.png"):
        write_image(images / name)
        write_labels(labels / name, np.full(SHAPE, name in ("c.png", "d.png"), np.uint8))
    read = []
    monkeypatch.setattr(ImageRecord, "read", lambda record: read.append(record.name) or np.zeros((*SHAPE, 1)))
    monkeypatch.setattr("napari_affmae.data.label_images._is_copy", lambda ids, record: not record.read().size)
    assert len(pair_labels(images, labels, sparse=True)[0]) == 2
    assert read == ["c.png"]
