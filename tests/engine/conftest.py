"""A network so small that a training step takes milliseconds, and images for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_affmae.config import Budget, FinetuneConfig, PretrainConfig
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine.image_source import ArraySource
from napari_affmae.engine.tiling import FloatArray, TiledPrediction, TileFunction, WholeImage
from napari_affmae.model_config import ModelConfig


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def micro() -> ModelConfig:
    return ModelConfig(
        patch_size=4,
        embed_dims=(8, 12, 16, 16),
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 2, 2),
        neighbourhood=(16, 16, 16, 16),
        decoder_dim=16,
        decoder_heads=2,
    )


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 [96, 80] of bright blobs on dark ground, and its labels: 1 blob, 0 ground."""
    rng = np.random.default_rng(3)
    field = ndimage.gaussian_filter(rng.normal(size=(96, 80)), 5)
    labels = (field > np.quantile(field, 0.7)).astype(np.uint8)
    image = 60 + 120 * labels + rng.normal(0, 8, labels.shape)
    return image.clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def collection(blobs: tuple[np.ndarray, np.ndarray]) -> ImageCollection:
    image, _ = blobs
    return collection_from_arrays({"one": image, "two": image[::-1].copy()})


@pytest.fixture
def examples(blobs: tuple[np.ndarray, np.ndarray]) -> list[LabelledImage]:
    image, labels = blobs
    arrays = {"one": image, "two": np.ascontiguousarray(image[::-1])}
    records = collection_from_arrays(arrays).records
    return [LabelledImage(record, paint) for record, paint in zip(records, (labels, labels[::-1]), strict=True)]


@pytest.fixture
def pretraining(micro: ModelConfig) -> PretrainConfig:
    return PretrainConfig(model=micro, budget=Budget(steps=6), tile=32, batch=4, device="cpu", preview_seconds=1000)


@pytest.fixture
def finetuning() -> FinetuneConfig:
    return FinetuneConfig(budget=Budget(steps=6), tile=32, batch=4, device="cpu")


@pytest.fixture
def predict_tiled() -> Callable[..., FloatArray]:
    """Apply a function to an image ``[H, W]`` or ``[H, W, C]`` by tiles; gives ``[K, H, W]``."""

    def predict(function: TileFunction, image: Any, **settings: int) -> FloatArray:
        source = ArraySource(image)
        whole = WholeImage(source.height)
        for _ in TiledPrediction(function, source, **{"batch": 1, **settings}, into=whole).run():
            pass
        assert whole.values is not None
        return whole.values

    return predict
