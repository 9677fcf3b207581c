"""Checkpoints hold all that matters and refuse what is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_affmae.card import ModelCard
from napari_affmae.engine.checkpoint import Progressed, load_checkpoint, restore, save_checkpoint
from napari_affmae.engine.optimizer import OptimizerSettings, make_optimizer
from napari_affmae.errors import ModelFileError
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import save_model
from napari_affmae.model_config import ModelConfig

SETTINGS = OptimizerSettings(learning_rate=1e-3, betas=(0.9, 0.95), weight_decay=0.05, clip=5.0)
CPU = torch.device("cpu")


def trained(config: ModelConfig, steps: int = 2) -> tuple[MaskedAutoencoder, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = MaskedAutoencoder(config)
    optimizer = make_optimizer(model, SETTINGS, CPU)
    for _ in range(steps):
        model(torch.randn(2, 1, 32, 32)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.fixture
def saved(tmp_path: Path, micro: ModelConfig) -> Path:
    model, optimizer = trained(micro)
    path = tmp_path / "checkpoint.safetensors"
    progressed = Progressed(step=2, elapsed=1.5, batch=2)
    save_checkpoint(path, "pretrain", progressed, ModelCard(tile=32), {"curve": {"steps": [1]}}, model, optimizer)
    return path


def test_weights_and_moments_come_back_bit_for_bit(saved: Path, micro: ModelConfig) -> None:
    model, optimizer = trained(micro)
    other, other_optimizer = trained(micro, steps=0)
    checkpoint = load_checkpoint(saved, "pretrain")
    restore(checkpoint, other, other_optimizer)
    assert checkpoint.progressed == Progressed(step=2, elapsed=1.5, batch=2)
    assert checkpoint.card == ModelCard(tile=32)
    assert checkpoint.record == {"curve": {"steps": [1]}}
    for (name, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name
        assert optimizer.state[a].keys() == other_optimizer.state[b].keys(), name
        for key, value in optimizer.state[a].items():
            assert torch.equal(value, other_optimizer.state[b][key]), (name, key)
    assert any(optimizer.state.values())


def test_a_truncated_checkpoint(saved: Path) -> None:
    data = saved.read_bytes()
    for length in (0, 5, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=r"is damaged .*model\.safetensors"):
            load_checkpoint(saved, "pretrain")


def test_a_model_is_no_checkpoint(tmp_path: Path, micro: ModelConfig) -> None:
    path = save_model(MaskedAutoencoder(micro), tmp_path / "checkpoint.safetensors")
    with pytest.raises(ModelFileError, match="is no checkpoint of napari-affmae"):
        load_checkpoint(path, "pretrain")


def test_a_checkpoint_of_an_older_version(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ours, told in ((3, "older version: go on with that one"), (1, "update napari-affmae")):
        monkeypatch.setattr("napari_affmae.engine.checkpoint._FORMAT", ours)
        with pytest.raises(ModelFileError, match=told):
            load_checkpoint(saved, "pretrain")


def test_another_jobs_checkpoint(saved: Path) -> None:
    with pytest.raises(ModelFileError, match="belongs to a pretrain run, not to finetune"):
        load_checkpoint(saved, "finetune")


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="ended before it saved one"):
        load_checkpoint(tmp_path / "checkpoint.safetensors", "pretrain")


def test_another_networks_checkpoint(saved: Path, micro: ModelConfig) -> None:
    model, optimizer = trained(micro.replace(decoder_dim=32, decoder_ffn_dim=64), steps=0)
    with pytest.raises(ModelFileError, match=r"of another network .*size mismatch"):
        restore(load_checkpoint(saved, "pretrain"), model, optimizer)


def test_vectors_do_not_decay_and_depths_have_their_rates(micro: ModelConfig) -> None:
    model = MaskedAutoencoder(micro)
    optimizer = make_optimizer(model, OptimizerSettings(1e-3, (0.9, 0.95), 0.05, 5.0, layer_decay=0.5), CPU)
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    assert len(group_of) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert group_of[id(parameter)]["weight_decay"] == (0.05 if parameter.dim() > 1 else 0.0), name
    scales = {name.split(".")[0]: group_of[id(parameter)]["scale"] for name, parameter in model.named_parameters()}
    assert (scales["heads"], scales["decoder"], scales["patch_embedding"]) == (1.0, 0.5, 0.5**6)
