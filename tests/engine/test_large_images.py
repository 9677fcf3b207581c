"""Of an image that is too large to hold, every job reads parts, and makes of them what it makes of the whole."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from napari_affmae.card import ClassInfo, ModelCard, Normalisation
from napari_affmae.cli.card import _hashes
from napari_affmae.data import label_images, records
from napari_affmae.data.labels import HeldOut, LabelledImage, to_targets
from napari_affmae.data.lazy_plane import LazyPlane
from napari_affmae.data.normalisation import measure
from napari_affmae.data.records import ImageCollection, ImageRecord
from napari_affmae.data.scan import scan
from napari_affmae.engine.evaluate import evaluate
from napari_affmae.engine.export import _statistics, _test_image
from napari_affmae.engine.image_fit import check_range
from napari_affmae.engine.preview import Previewer
from napari_affmae.engine.scoring import Scorer
from napari_affmae.errors import DataError
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

LARGE = (1300, 1100)
STATISTICS = Normalisation(low=(0,), high=(60_000,), mean=(30_000,), std=(17_000,))
CLASSES = tuple(ClassInfo(id=number, name=f"c{number}", color="#000000") for number in (1, 2))


def on_disk(folder: Path, shape: tuple[int, int]) -> ImageCollection:
    """Return one image that can be read part by part: noise on a slope from top to bottom."""
    rng = np.random.default_rng(0)
    pixels = np.linspace(0, 40_000, shape[0])[:, None] + rng.integers(0, 20_000, shape)
    zarr.create_array(folder / "large.zarr", data=pixels.astype(np.uint16), chunks=(256, 256))
    return scan(folder)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on every image is too large, and whoever reads one whole, or most of it at once, fails."""

    def forbid() -> None:
        monkeypatch.setattr(records, "MOST_BYTES", 1000, raising=False)
        monkeypatch.setattr(ImageRecord, "read", lambda record: pytest.fail(f"{record.name} was read whole"))
        get = LazyPlane.__getitem__

        def bounded(plane: LazyPlane, key: Any) -> np.ndarray:
            part = get(plane, key)
            assert part.size <= 0.75 * math.prod(plane.shape)
            return part

        monkeypatch.setattr(LazyPlane, "__getitem__", bounded)

    return forbid


def labelled(images: ImageCollection) -> LabelledImage:
    [record] = images.records
    labels = np.zeros((record.height, record.width), np.uint8)
    labels[:90, :90], labels[-90:, -90:] = 1, 2
    return LabelledImage(record, labels)


def previewed(images: ImageCollection, micro: ModelConfig) -> Any:
    model = MaskedAutoencoder(micro)
    model.card = ModelCard(normalisation=STATISTICS)
    return Previewer(images, model, 64, seed=0).draw(1).target


def scored(images: ImageCollection, micro: ModelConfig) -> Any:
    example = labelled(images)
    held_out = [HeldOut(example.record, to_targets(example.labels, CLASSES, sparse=True))]
    seen = []

    def predict(tiles: np.ndarray, background: np.ndarray) -> np.ndarray:
        seen.append((tiles, background))
        return np.zeros((1, 2, 64, 64), np.float32)

    Scorer(held_out, CLASSES, STATISTICS, 64, most_tiles=5).score(0, predict)  # type: ignore[arg-type]
    return seen


def evaluated(images: ImageCollection, micro: ModelConfig) -> Any:
    model = Segmenter(micro, 2)
    model.card = ModelCard(classes=CLASSES, normalisation=STATISTICS, tile=64)
    result = evaluate(model, [labelled(images)], device="cpu", sparse=True)
    return result.confusion, result.notices


def in_range(images: ImageCollection, _: ModelConfig) -> Any:
    darker = STATISTICS.replace(low=(-2.0,), high=(-1.0,))
    with pytest.raises(DataError, match="sees nothing") as refused:
        check_range([(record.name, record.open()) for record in images.records], darker)
    return str(refused.value)


def exported(images: ImageCollection, _: ModelConfig) -> Any:
    pixels = images.records[0].load()
    return _test_image(pixels, _statistics(STATISTICS, pixels), 64)


def copied(images: ImageCollection, _: ModelConfig) -> Any:
    ids = np.asarray(zarr.open_array(images.records[0].path, mode="r"))
    other = ids.copy()
    other[-1, -1] += 1
    return [label_images._is_copy(labels, images.records[0]) for labels in (ids, other)]


def hashed(images: ImageCollection, _: ModelConfig) -> Any:
    return list(_hashes(dataclasses.replace(images.records[0], fingerprint=None), [(0,)]))


@pytest.mark.parametrize(
    ("job", "shape"),
    [
        (previewed, LARGE),
        (scored, LARGE),
        (evaluated, (300, 120)),
        (in_range, LARGE),
        (exported, LARGE),
        (copied, LARGE),
        (hashed, (3000, 300)),
    ],
)
def test_parts_give_what_the_whole_gives(
    tmp_path: Path, in_parts: Callable[[], None], micro: ModelConfig, job: Callable[..., Any], shape: tuple[int, int]
) -> None:
    images = on_disk(tmp_path, shape)
    torch.manual_seed(0)
    whole = job(images, micro)
    in_parts()
    torch.manual_seed(0)
    np.testing.assert_equal(job(images, micro), whole)


def test_statistics_of_parts_are_those_of_the_whole(tmp_path: Path, in_parts: Callable[[], None]) -> None:
    large = on_disk(tmp_path, LARGE)
    whole = measure(large)
    in_parts()
    found = measure(large)
    for name in ("low", "high", "mean", "std"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=1500), name
    assert found == measure(large)
