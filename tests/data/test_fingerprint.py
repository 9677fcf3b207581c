"""Fingerprints follow pixel values and nothing else."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from napari_affmae.data.fingerprint import fingerprint, label_fingerprint, summary
from napari_affmae.data.scan import scan


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, (2500, 7, 3)).astype(np.uint16)


def test_layout_and_byte_order_play_no_role(pixels: np.ndarray) -> None:
    own = fingerprint(pixels)
    assert fingerprint(np.asfortranarray(pixels)) == own
    assert fingerprint(pixels.astype(">u2")) == own
    assert fingerprint(np.repeat(pixels, 2, axis=1)[:, ::2]) == own
    assert fingerprint(pixels[..., :1]) == fingerprint(pixels[..., 0])


def test_value_size_and_type_do(pixels: np.ndarray) -> None:
    changed = pixels.copy()
    changed[2400, 3, 1] ^= 1
    others = [changed, pixels[:-1], pixels.reshape(7, 2500, 3), pixels.view(np.int16), pixels[::-1], pixels[..., :2]]
    assert len({fingerprint(pixels), *map(fingerprint, others)}) == 1 + len(others)


def test_ids_may_have_any_integer_type() -> None:
    ids = np.arange(12).reshape(3, 4)
    assert len({label_fingerprint(ids.astype(kind)) for kind in (np.uint8, np.int16, np.int64)}) == 1


def test_a_set_of_images_has_no_order() -> None:
    assert summary(["b", "a", "b"], 5) == summary(["a", "b"], 5) == {**summary(["a", "b"], 5), "count": 5, "hashes": ["a", "b"]}
    assert summary(["a"], 5)["digest"] != summary(["a", "b"], 5)["digest"]


def test_the_file_format_plays_no_role(tmp_path, pixels: np.ndarray) -> None:
    gray = (pixels[:64, :, 0] % 251).astype(np.uint8)
    for name in ("a.png", "b.tif"):
        Image.fromarray(gray).save(tmp_path / name)
    first, second = (fingerprint(record.read()) for record in scan(tmp_path).records)
    assert first == second == fingerprint(gray)


def test_labels_are_never_copied_whole() -> None:
    """Live mode hashes its paint again and again, and paint may fill most of the memory."""
    labels = np.ones((6000, 4000), np.uint8)
    tracemalloc.start()
    label_fingerprint(labels)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < labels.nbytes


@pytest.mark.parametrize("shape", [(2000, 700), (300, 100, 3)])
def test_of_a_very_large_image_windows_count(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr("napari_affmae.data.fingerprint._MOST", 50_000)
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    seen = np.zeros(shape[:2], bool)

    class Parts:
        def __getitem__(self, at: tuple[slice, slice]) -> np.ndarray:
            seen[at] = True
            return pixels[at]

    parts = Parts()
    parts.shape, parts.ndim, parts.dtype = pixels.shape, pixels.ndim, pixels.dtype
    own = fingerprint(pixels)
    assert fingerprint(parts) == own
    assert seen[0, 0]
    assert seen[-1, -1]
    pixels[-1, -1] ^= 1
    assert fingerprint(pixels) != own
