"""Finetuning tiles hold paint, find rare classes, stay aligned with their images, and never show what is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from scipy import ndimage

from napari_affmae.card import Normalisation
from napari_affmae.data.classes import IGNORE, default_classes
from napari_affmae.data.held_out import hold_out
from napari_affmae.data.labels import LabelledImage, LabelledSampler, class_table
from napari_affmae.data.records import ImageRecord
from napari_affmae.data.scan import collection_from_arrays, scan
from napari_affmae.errors import DataError, LabelError

PLAIN = Normalisation(low=(-1e9,), high=(1e9,), mean=(0.0,), std=(1.0,))


def aligned(labels: np.ndarray, name: str = "a") -> LabelledImage:
    """Return an image whose intensity is its label, plus a fraction that makes it not constant."""
    image = labels + np.linspace(0, 0.2, labels.shape[1])
    return LabelledImage(collection_from_arrays({name: image}).records[0], labels)


def painted(seed: int = 0, shape: tuple[int, int] = (120, 150)) -> np.ndarray:
    """Paint a few strokes of three classes; the third is a single dot."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for class_id in (1, 2):
        for _ in range(6):
            row, column = rng.integers(0, shape[0] - 4), rng.integers(0, shape[1] - 30)
            labels[row : row + 3, column : column + 25] = class_id
    labels[shape[0] // 2, shape[1] // 2] = 3
    return labels


def sampler(examples: list[LabelledImage], *, sparse: bool = True, **settings: object) -> LabelledSampler:
    options: dict[str, object] = {"tile": 32, "batch": 8, "seed": 0, **settings}
    return LabelledSampler(examples, class_table(examples, sparse=sparse), PLAIN, sparse=sparse, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(120, 150), (20, 150), (9, 11), (32, 32)])
def test_tiles_hold_paint_and_stay_aligned(shape: tuple[int, int]) -> None:
    labels = painted(shape=(120, 150))[: shape[0], : shape[1]].copy()
    labels[0, :5], labels[1, :5] = 1, 2
    tiles = sampler([aligned(labels)])
    for step in range(10):
        images, targets = tiles.batch(step)
        assert images.shape == (8, 1, 32, 32)
        assert images.dtype == np.float32
        assert targets.shape == (8, 32, 32)
        assert targets.dtype == np.int64
        assert (targets >= 0).any(axis=(1, 2)).all()
        known = targets >= 0
        np.testing.assert_array_equal(np.floor(images[:, 0])[known], targets[known] + 1)


def test_a_class_beyond_the_hundredth_counts() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[:8], labels[20:30] = 1, 150
    table = default_classes(range(1, 201))
    one = LabelledSampler([aligned(labels)], table, PLAIN, 32, 8, 0, sparse=True)
    assert one.class_pixels[[0, 149]].tolist() == [8 * 64, 10 * 64]
    assert one.class_pixels.sum() == 18 * 64


def test_every_class_is_centred_on_equally_often_however_rare() -> None:
    tiles = sampler([aligned(painted())], batch=50)
    with_dot = np.concatenate([(tiles.batch(step)[1] == 2).any(axis=(1, 2)) for step in range(10)])
    assert with_dot.mean() > 0.28, "one painted pixel in 18 000 is in every third tile"


def test_the_pixel_is_not_always_in_the_middle() -> None:
    tiles = sampler([aligned(painted())], batch=60)
    targets = np.concatenate([tiles.batch(step)[1] for step in range(5)])
    _, rows, columns = np.nonzero(targets == 2)
    assert rows.min() <= 8 < 24 <= rows.max()
    assert columns.min() <= 8 < 24 <= columns.max()
    assert rows.std() > 4


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    examples = [aligned(painted(i), str(i)) for i in range(3)]
    first, second = sampler(examples, held_out=0.2), sampler(examples, held_out=0.2, cache_bytes=0)
    expected = [first.batch(step) for step in range(4)]
    for step in (3, 1, 1, 0, 2):
        for ours, theirs in zip(second.batch(step), expected[step], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(sampler(examples, held_out=0.2, seed=1).batch(0)[1], expected[0][1])


def test_wide_paint_is_thinned_without_losing_a_class() -> None:
    labels = np.zeros((700, 700), np.uint8)
    labels[:, 350:] = 1
    labels[3, 3] = 2
    tiles = sampler([aligned(labels)], sparse=False)
    assert tiles.class_pixels.tolist() == [350 * 700 - 1, 350 * 700, 1]
    assert set(np.unique(tiles.batch(0)[1])) == {0, 1, 2}
    assert tiles.tiles_per_epoch == 22 * 22


def dense(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (64, 96)).astype(np.uint8)


@pytest.mark.parametrize(
    ("labels", "sparse", "kind"),
    [
        ([painted(0) * (painted(0) < 3)], True, "strokes"),
        ([dense()], False, "blocks"),
        ([dense(i) for i in range(4)], False, "blocks"),
        ([dense(i) for i in range(6)], False, "images"),
        ([painted(i) * (painted(i) < 3) for i in range(6)], True, "images"),
    ],
)
def test_what_is_held_out_is_never_trained_on(labels: list[np.ndarray], sparse: bool, kind: str) -> None:
    examples = [aligned(plane, str(i)) for i, plane in enumerate(labels)]
    tiles = sampler(examples, sparse=sparse, held_out=0.2, batch=32)
    assert tiles.held_out_kind == kind
    classes = len(class_table(examples, sparse=sparse))
    total = sum((np.bincount(p[p > 0] - 1, minlength=classes) if sparse else np.bincount(p.ravel())) for p in labels)
    held = sum(np.bincount(item.targets[item.targets >= 0], minlength=classes) for item in tiles.held_out)
    np.testing.assert_array_equal(held + tiles.class_pixels, total)
    part = held / total
    assert (part > 0.05).all()
    assert (part < 0.5).all()
    # Give every pixel its own intensity: then a tile tells which pixels it trains on.
    numbered, hidden = [], set()
    for index, item in enumerate(examples):
        first = 20_000 * index
        image = first + np.arange(item.labels.size, dtype=np.float32).reshape(item.labels.shape)
        numbered.append(LabelledImage(collection_from_arrays({item.name: image}).records[0], item.labels))
        for kept in tiles.held_out:
            if kept.record.name == item.name:
                hidden.update((first + np.flatnonzero(kept.targets >= 0)).tolist())
    again = sampler(numbered, sparse=sparse, held_out=0.2, batch=32)
    for step in range(5):
        images, targets = again.batch(step)
        assert hidden.isdisjoint(images[:, 0][targets >= 0].astype(int).tolist())


def test_whole_strokes_are_held_out() -> None:
    labels = painted() * (painted() < 3)
    tiles = sampler([aligned(labels)], held_out=0.25)
    (held,) = tiles.held_out
    for class_index in (0, 1):
        strokes, count = ndimage.label(labels == class_index + 1, structure=np.ones((3, 3)))
        parts = [float((held.targets == class_index)[strokes == number].mean()) for number in range(1, count + 1)]
        assert set(parts) == {0.0, 1.0}


def test_a_diagonal_line_is_one_stroke() -> None:
    labels = np.zeros((60, 60), np.int8) - 1
    for first in (0, 20, 40):
        for step in range(18):
            labels[first + step, step] = 0
            labels[first + step, 30 + step] = 1
    (mask,), kind = hold_out([labels], 2, 0.3, True, 0)
    assert kind == "strokes"
    assert (mask & (labels == 0)).sum() == (mask & (labels == 1)).sum() == 18


def test_nothing_is_held_out_if_a_class_cannot_spare_it() -> None:
    tiles = sampler([aligned(painted())], held_out=0.2)  # the third class is a single dot
    assert tiles.held_out == ()
    assert tiles.held_out_kind == "none"
    assert sampler([aligned(dense())], sparse=False, held_out=0).held_out == ()


def test_a_class_in_one_image_of_many_is_not_lost_to_the_score() -> None:
    planes = [dense(i) for i in range(8)]
    for plane in planes[1:]:
        plane[plane == 2] = 0
    tiles = sampler([aligned(plane, str(i)) for i, plane in enumerate(planes)], sparse=False, held_out=0.2)
    assert tiles.class_pixels[2] > 0
    assert tiles.held_out_kind == "blocks", "whole images will not do"


def test_images_without_paint_do_not_count_as_labelled() -> None:
    targets = [np.where(painted(seed) > 0, painted(seed).astype(np.int16) % 2, np.int16(-1)) for seed in range(5)]
    blank = [np.full_like(targets[0], -1)] * 2
    assert hold_out(targets + blank, 2, 0.3, sparse=True, seed=0)[1] == "images"
    assert hold_out(targets[:4] + blank, 2, 0.3, sparse=True, seed=0)[1] == "strokes"


def test_the_same_seed_holds_out_the_same_pixels() -> None:
    targets = [dense(i).astype(np.int8) for i in range(3)]
    first, second, other = (hold_out(targets, 3, 0.2, False, seed)[0] for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_too_little_paint_is_refused() -> None:
    two = class_table([aligned(dense())], sparse=False)
    nothing = aligned(np.zeros((40, 40), np.uint8))
    with pytest.raises(LabelError, match="no labelled images"):
        LabelledSampler([], two, PLAIN, 32, 4, sparse=False)
    with pytest.raises(LabelError, match="nothing is painted"):
        LabelledSampler([nothing], two[1:], PLAIN, 32, 4, sparse=True)
    with pytest.raises(LabelError, match="only class 0 is painted"):
        LabelledSampler([nothing], two, PLAIN, 32, 4, sparse=False)


def vanishing(tmp_path: Path, count: int) -> list[LabelledImage]:
    """Return labelled images in files, which can vanish."""
    for number in range(count):
        Image.fromarray((painted(number) * 60 + 5 * number).astype(np.uint8)).save(tmp_path / f"{number}.png")
    records = scan(tmp_path).records
    return [LabelledImage(record, painted(number)) for number, record in enumerate(records)]


def test_an_image_that_vanished_is_left_out_until_none_remains(tmp_path: Path) -> None:
    examples = vanishing(tmp_path, 3)
    cut, unread = sampler(examples, cache_bytes=0), sampler(examples)
    whole = [cut.batch(step)[0] for step in range(4)]
    (tmp_path / "1.png").unlink()
    for step in range(4):
        assert cut.batch(step)[0].shape == whole[step].shape
    assert [skipped.name for skipped in cut.lost] == ["1.png"]
    assert (cut.targets[1] == IGNORE).all(), "nothing of it is to be trained on"
    rest = sampler([examples[0], examples[2]], cache_bytes=0)
    np.testing.assert_array_equal(cut.class_pixels, rest.class_pixels)
    for name in ("0.png", "2.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"none of the 3 labelled images can be read any more, the last because .*drive"):
        unread.batch(5)


def test_images_that_vanished_with_all_but_one_class_end_the_training(tmp_path: Path) -> None:
    first, second = vanishing(tmp_path, 2)
    one_class = LabelledImage(second.record, (second.labels == 1).astype(np.uint8))
    cut = sampler([first, one_class], cache_bytes=0)
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png.*only class 1 is painted on the images that are left"):
        cut.batch(0)


def test_tiles_of_large_images_are_the_same_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = painted()
    Image.fromarray(painted(2) * 60).save(tmp_path / "b.png")
    array = zarr.create_array(tmp_path / "a.zarr", shape=labels.shape, chunks=(16, 16), dtype="uint16")
    array[:] = np.random.default_rng(1).integers(0, 65_000, labels.shape)
    examples = [LabelledImage(record, painted(2 * place)) for place, record in enumerate(scan(tmp_path).records)]
    whole, in_parts = sampler(examples), sampler(examples, cache_bytes=1000)
    expected = [whole.batch(step) for step in range(3)]
    read, reads = ImageRecord.read, []

    def noted(record: ImageRecord) -> np.ndarray:
        reads.append(record.name)
        return read(record)

    monkeypatch.setattr(ImageRecord, "read", noted)
    for step in (2, 0, 1):
        for found, wanted in zip(in_parts.batch(step), expected[step], strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert reads == ["b.png"], "which cannot be read in parts, and is kept"
    np.testing.assert_array_equal(in_parts.image(0)[20:60, 30:90, 0], array[20:60, 30:90])
