"""Model files: what goes in comes out, and a damaged or foreign file says what it is."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_affmae import MaskedAutoencoder, ModelConfig, Segmenter, load_model, load_reference_checkpoint, save_model
from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.errors import ModelFileError, StorageError
from napari_affmae.model_header import read_card

CONFIG = ModelConfig(
    patch_size=4,
    embed_dims=(8, 8, 8, 8),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
    neighbourhood=(8, 8, 8, 8),
    decoder_dim=8,
    decoder_heads=1,
)
CARD = ModelCard(
    normalisation=Normalisation(low=(0.0,), high=(255.0,), mean=(120.5,), std=(30.25,)),
    pixel_size=PixelSize(y=4.6, x=4.6, unit="nanometer"),
    classes=(ClassInfo(id=1, name="membrane", color="#ff8800"), ClassInfo(id=4, name="Mitochondrien ü", color="#0088ff")),
    tile=256,
)


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    model = Segmenter(CONFIG, 2)
    model.card = CARD
    return model.eval()


@torch.no_grad()
def test_round_trip(segmenter: Segmenter, tmp_path: Path) -> None:
    path = save_model(segmenter, tmp_path / "deep" / "mine.safetensors", job="finetune", images=4)
    loaded = load_model(path)
    assert isinstance(loaded, Segmenter)
    assert not loaded.training
    assert loaded.config == CONFIG
    assert loaded.card.classes == CARD.classes
    assert loaded.card.history[-1]["job"] == "finetune"
    assert {"date", "version"} <= set(loaded.card.history[-1])
    picture = torch.randn(1, 1, 20, 24)
    assert torch.equal(loaded(picture).logits, segmenter(picture).logits)
    assert [item.name for item in path.parent.iterdir()] == ["mine.safetensors"], "nothing else is left behind"


def test_a_run_folder_is_a_model(segmenter: Segmenter, tmp_path: Path) -> None:
    save_model(segmenter, tmp_path)
    assert load_model(tmp_path).card == CARD


def test_the_header_is_readable_alone(tmp_path: Path) -> None:
    header = read_card(save_model(MaskedAutoencoder(CONFIG), tmp_path / "m.safetensors"))
    assert (header.kind, header.num_classes, header.config) == ("mae", None, CONFIG)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no model at .*give a model file or a run folder"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match=r"expected a file model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(segmenter: Segmenter, tmp_path: Path, part: float) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ModelFileError, match="damaged"):
        load_model(path)


def test_somebody_else_s_file(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="was not written by napari-affmae"):
        load_model(path)
    path.write_text("hello, I am a text")
    with pytest.raises(ModelFileError, match="damaged or not a safetensors file"):
        load_model(path)


def test_weights_of_another_network(segmenter: Segmenter, tmp_path: Path) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(ModelFileError, match="damaged or do not fit its settings"):
        load_model(path)


def test_a_full_disk_keeps_the_old_file(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_model(segmenter, tmp_path / "m.safetensors")
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"No space left on device\. Free some space"):
        save_model(segmenter, path, note="again")
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]


def test_provenance_must_be_plain(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="JSON-able"):
        save_model(segmenter, tmp_path / "m.safetensors", data=np.zeros(3))
    assert segmenter.card == CARD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a PyTorch checkpoint"),
        (b"not a checkpoint at all", "cannot be read as a PyTorch checkpoint"),
        ({"model": {"weight": torch.zeros(1)}}, "not a checkpoint of the paper's model"),
        ([1, 2], "holds a list, expected a dict of tensors"),
    ],
)
def test_reference_checkpoints_that_are_none(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelFileError, match=message):
        load_reference_checkpoint(path)


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Trap()}, tmp_path / "c.pth")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_reference_checkpoint(tmp_path / "c.pth")
    assert not (tmp_path / "ran").exists()
