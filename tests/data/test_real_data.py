"""The real images beside the project, where they are: read only, and skipped elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_affmae.data.labels import LabelledSampler, class_table, pair_labels
from napari_affmae.data.normalisation import measure
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import scan
from napari_affmae.data.tiles import TileSampler

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared is not here")


def test_the_pretraining_pool() -> None:
    collection = scan(DATA / "em_pool")
    assert (len(collection), collection.channels, collection.skipped) == (110, 1, ())
    normalisation = measure(collection)
    tiles = TileSampler(collection, normalisation, 256, 4)
    batch = np.concatenate([tiles.batch(step) for step in range(10)])
    assert abs(batch.mean()) < 0.2
    assert 0.8 < batch.std() < 1.2


@pytest.mark.parametrize(
    ("folder", "split", "count", "foreground", "classes"),
    [
        ("em_vnc_sstem", "train", 14, False, 5),
        ("em_vnc_sstem", "test", 4, False, 5),
        ("em_isbi2012", "val", 3, False, 2),
        ("fluo_dsb2018", "val", 16, True, 2),
        ("rgb_dsb2018_histology", "test", 21, True, 2),
    ],
)
def test_labelled_sets_and_their_splits(folder: str, split: str, count: int, foreground: bool, classes: int) -> None:
    images, labels = DATA / folder / "images", DATA / folder / "labels"
    examples, skipped = pair_labels(images, labels, f"split.csv:{split}", foreground=foreground)
    assert (len(examples), skipped) == (count, [])
    by_path, _ = pair_labels(images, labels, f"{DATA / folder / 'split.csv'}:{split}", foreground=foreground)
    assert [item.name for item in by_path] == [item.name for item in examples]
    table = class_table(examples, sparse=False)
    assert len(table) == classes
    normalisation = measure(ImageCollection(tuple(item.record for item in examples)), sample=4)
    tiles = LabelledSampler(examples, table, normalisation, 128, 8, sparse=False, held_out=0.2)
    assert tiles.held_out
    pixels, targets = tiles.batch(0)
    assert pixels.shape == (8, 3 if folder.startswith("rgb") else 1, 128, 128)
    assert len(np.unique(targets[targets >= 0])) == classes
