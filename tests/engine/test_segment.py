"""Segmentation of any image, in the ids of the class table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import torch
import zarr

from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.control import JobControl
from napari_affmae.engine.segment import SegmentationResult, segment, segment_events
from napari_affmae.errors import ConfigError, DataError, DeviceError, ModelFileError
from napari_affmae.events import Done, Notice, Progress, Started
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

RNG = np.random.default_rng(1)
CLASSES = (
    ClassInfo(id=7, name="wall", color="#ff0000"),
    ClassInfo(id=300, name="core", color="#00ff00"),
    ClassInfo(id=2, name="rest", color="#0000ff"),
)


@pytest.fixture
def model(micro: ModelConfig) -> Segmenter:
    torch.manual_seed(0)
    segmenter = Segmenter(micro, 3)
    for parameter in segmenter.heads.parameters():
        torch.nn.init.normal_(parameter)
    segmenter.card = ModelCard(
        normalisation=Normalisation(low=(0,), high=(255,), mean=(120,), std=(60,)),
        classes=CLASSES,
        tile=32,
        pixel_size=PixelSize(y=8, x=8, unit="nanometer"),
    )
    return segmenter


def image(*shape: int) -> np.ndarray:
    return RNG.integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(32, 32), (9, 50), (1, 1), (77, 41), (40, 33, 1)])
def test_any_size_gives_labels_of_the_class_table(model: Segmenter, shape: tuple[int, ...]) -> None:
    result = segment(model, image(*shape), device="cpu")
    assert result.labels.shape == shape[:2]
    assert result.labels.dtype == np.uint16
    assert result.probabilities.shape == (3, *shape[:2])
    assert result.probabilities.dtype == np.float32
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
    ids = np.array([info.id for info in CLASSES])
    np.testing.assert_array_equal(result.labels, ids[result.probabilities.argmax(axis=0)])
    assert result.classes == CLASSES


def test_one_tile_is_the_plain_network(model: Segmenter) -> None:
    pixels = image(30, 29)
    with torch.no_grad():
        expected = model.eval()((torch.from_numpy(pixels.astype(np.float32))[None, None] - 120) / 60).logits.softmax(1)[0]
    np.testing.assert_allclose(segment(model, pixels, device="cpu").probabilities, expected, atol=1e-5)


def test_the_batch_size_changes_speed_only(model: Segmenter) -> None:
    pixels = image(70, 90)
    one, many = (segment(model, pixels, batch=batch, device="cpu").probabilities for batch in (1, 5))
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_numpy_dask_and_zarr_agree(model: Segmenter, tmp_path: Path) -> None:
    pixels = image(70, 50)
    expected = segment(model, pixels, device="cpu").labels
    stored = zarr.create_array(str(tmp_path / "image.zarr"), shape=pixels.shape, chunks=(20, 20), dtype=pixels.dtype)
    stored[:] = pixels
    for lazy in (dask.array.from_array(pixels, chunks=(17, 23)), stored):
        np.testing.assert_array_equal(segment(model, lazy, device="cpu").labels, expected)


def test_a_fresh_segmenter_speaks_ids_from_0_and_measures_the_image(micro: ModelConfig) -> None:
    fresh = Segmenter(micro, 3)
    pixels = image(40, 40)
    result = segment(fresh, pixels.astype(np.float32) * 50 - 1000, device="cpu")
    assert set(np.unique(result.labels)) <= {0, 1, 2}
    assert result.labels.dtype == np.uint8
    # Measured on the image itself, so that its units do not matter.
    np.testing.assert_allclose(result.probabilities, segment(fresh, pixels, device="cpu").probabilities, atol=1e-3)


def test_files_and_run_folders_are_models(model: Segmenter, tmp_path: Path) -> None:
    pixels = image(40, 40)
    expected = segment(model, pixels, device="cpu").labels
    path = save_model(model, tmp_path / "model.safetensors")
    for place in (path, tmp_path, str(path)):
        np.testing.assert_array_equal(segment(place, pixels, device="cpu").labels, expected)


def test_events(model: Segmenter) -> None:
    events = list(segment_events(model, image(70, 70), device="cpu"))
    assert isinstance(events[0], Started)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.step for event in progress] == list(range(1, events[0].total_steps + 1))  # type: ignore[operator]
    assert progress[-1].fraction == 1
    assert isinstance(events[-1], Done)
    assert isinstance(events[-1].result, SegmentationResult)


def test_a_stop_ends_without_a_result(model: Segmenter) -> None:
    control = JobControl()
    seen = []
    for event in segment_events(model, image(70, 70), device="cpu", control=control):
        seen.append(event)
        control.stop()
    assert isinstance(seen[-1], Done)
    assert seen[-1].stopped
    assert seen[-1].result is None
    assert sum(isinstance(event, Progress) for event in seen) == 1


def test_another_pixel_size_is_segmented_at_the_models_own(model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = image(30, 28)
    fine = pixels.repeat(2, axis=0).repeat(2, axis=1)
    seen: list[torch.Size] = []
    forward = Segmenter.forward

    def watched(self: Segmenter, images: torch.Tensor) -> Any:
        seen.append(images.shape[-2:])
        return forward(self, images)

    monkeypatch.setattr(Segmenter, "forward", watched)
    events = list(segment_events(model, fine, device="cpu", pixel_size=PixelSize(y=0.004, x=0.004)))
    (notice,) = [event.message for event in events if isinstance(event, Notice)]
    assert "4 nm per pixel, the model was trained at 8" in notice
    assert "scaled by 0.5" in notice
    assert seen == [torch.Size([30, 28])]
    result = events[-1].result  # type: ignore[attr-defined]
    assert result.labels.shape == (60, 56)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
    agreement = (result.labels[::2, ::2] == segment(model, pixels, device="cpu").labels).mean()
    assert agreement > 0.8


def test_another_range_of_values_is_said_once(model: Segmenter) -> None:
    wide = image(70, 70).astype(np.uint16) * 200 + 1
    events = list(segment_events(model, wide, device="cpu"))
    (notice,) = [event.message for event in events if isinstance(event, Notice)]
    assert "99 % of the pixels of the image lie outside of the range of values that the network was trained on" in notice
    half_black = image(70, 70)
    half_black[:40] = 0
    for quiet in (image(70, 70), half_black, np.full((70, 70), 9999)):
        assert not [event for event in segment_events(model, quiet, device="cpu") if isinstance(event, Notice)]


def test_nearly_the_same_pixel_size_changes_nothing(model: Segmenter) -> None:
    events = list(segment_events(model, image(30, 30), device="cpu", pixel_size=PixelSize(y=8.5, x=8.5, unit="nanometer")))
    assert not [event for event in events if isinstance(event, Notice)]


def test_channels_that_do_not_fit(model: Segmenter) -> None:
    with pytest.raises(DataError, match="the image has 3 channels, but the model was made for 1: choose the channels"):
        segment(model, image(30, 30, 3), device="cpu")


def test_nan(model: Segmenter) -> None:
    with pytest.raises(DataError, match="NaN or infinite"):
        segment(model, np.full((30, 30), np.nan, np.float32), device="cpu")


def test_a_constant_image_is_segmented_with_the_models_statistics(model: Segmenter) -> None:
    assert segment(model, np.full((30, 30), 9, np.uint8), device="cpu").labels.shape == (30, 30)


def test_a_pretrained_network_is_no_segmenter(micro: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no segmenter but a pretrained network: finetune it on labels first"):
        segment(save_model(MaskedAutoencoder(micro), tmp_path / "mae.safetensors"), image(30, 30))


def test_a_tile_that_cuts_patches(model: Segmenter) -> None:
    with pytest.raises(ConfigError, match="multiple of 4"):
        segment(model, image(30, 30), tile=30)


def limit_memory(monkeypatch: pytest.MonkeyPatch, tiles: int) -> list[int]:
    forward = Segmenter.forward
    asked: list[int] = []

    def limited(self: Segmenter, images: torch.Tensor) -> Any:
        asked.append(len(images))
        if len(images) > tiles:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    monkeypatch.setattr(Segmenter, "forward", limited)
    return asked


def test_exhausted_memory_takes_fewer_tiles_at_once(model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = image(70, 70)
    expected = segment(model, pixels, batch=1, device="cpu").labels
    asked = limit_memory(monkeypatch, 2)
    events = list(segment_events(model, pixels, batch=8, device="cpu"))
    assert asked[:3] == [8, 4, 2]
    assert max(asked[3:]) == 2
    assert "exhausted by 8 tiles at once: going on with 4" in next(e.message for e in events if isinstance(e, Notice))
    np.testing.assert_array_equal(events[-1].result.labels, expected)  # type: ignore[attr-defined]


def test_memory_too_small_for_one_tile(model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 0)
    with pytest.raises(DeviceError, match="exhausted by a single tile: choose a smaller tile"):
        segment(model, image(30, 30), device="cpu")
