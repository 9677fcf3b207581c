"""The benchmark measures what it says, and nothing at all when an operator is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import affmae_kernels
import numpy as np
import pytest
import torch

from napari_affmae.bench import cases
from napari_affmae.bench.cases import CASES, Case
from napari_affmae.bench.measure import covered, shares
from napari_affmae.bench.run import describe_machine, largest
from napari_affmae.bench.self_check import wrong_operators
from napari_affmae.bench.vit_mae import SIZES, VitMAE, VitSizes
from napari_affmae.cli import main
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.masking import draw_mask
from napari_affmae.model_config import ModelConfig

SMALLEST = (
    Case("train", "training", "tiny", 32, 1, device="cpu"),
    Case("segment", "segmentation", "tiny", 32, 1, device="cpu"),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "CASES", SMALLEST)


@pytest.mark.usefixtures("small")
def test_table_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--out", str(tmp_path / "bench.json")]) == 0
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [line["case"] for line in written["lines"]] == ["train", "segment"]
    assert all(line["ours_ms"] > 0 for line in written["lines"])
    assert written["lines"][0]["ours_gflop"] > 0
    assert "CPU" in written["machine"]["cpu"]["device"]
    shown = capsys.readouterr().out
    assert "operators run in PyTorch, as always on a CPU" in shown
    assert "train" in shown
    assert "ms" in shown


def test_a_device_is_called_by_its_own_name() -> None:
    assert describe_machine(torch.device("cpu"))["device"].startswith("CPU, ")
    assert describe_machine(torch.device("mps"))["device"] == "MPS"


@pytest.mark.usefixtures("small")
def test_wrong_operators_leave_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = affmae_kernels.token_merge

    def wrong(**given: torch.Tensor) -> torch.Tensor:
        merged = right(**given)
        return merged if merged.dtype == torch.float64 else merged * 1.01

    assert wrong_operators(torch.device("cpu")) == []
    monkeypatch.setattr(affmae_kernels, "token_merge", wrong)
    assert main(["bench", "--out", str(tmp_path / "bench.json")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no figures: operators are wrong on this machine; token_merge, result" in captured.err
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.parametrize("name", ["cluster_attention", "token_merge", "deformable_attention"])
def test_an_operator_that_is_wrong_in_every_precision_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(affmae_kernels, name)
    monkeypatch.setattr(affmae_kernels, name, lambda **given: right(**given) * 1.0001)
    lines = wrong_operators(torch.device("cpu"))
    assert lines
    assert all(line.startswith(name) and "of constants, torch.float64: relative error 1.0e-04" in line for line in lines)


@pytest.mark.parametrize("way", ["cluster_attention_dense", "cluster_attention_reference"])
def test_both_ways_of_attention_on_a_cpu_are_checked(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["affmae_kernels.attention.op"]
    right = getattr(module, way)
    monkeypatch.setattr(module, way, lambda *given: right(*given) * 1.0001)
    [line] = wrong_operators(torch.device("cpu"))
    assert "cluster_attention" in line


def test_an_unknown_case_lists_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--case", "small"]) == 2
    assert "unknown case 'small': choose from small-512, small-1024" in capsys.readouterr().err


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 100, 1000, 5000])
def test_the_largest_batch_is_found_in_few_trials(limit: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    found = largest(fits, most=1024)
    wanted = min(limit, 1024)
    assert found <= wanted <= found + max(1, found // 8)
    assert len(tried) <= 20


def test_busy_time_counts_overlaps_once() -> None:
    assert covered([(0, 10), (2, 5), (8, 12), (18, 20)]) == pytest.approx(14 / 20)


def test_times_of_kernels_are_per_step_and_the_longest_stands_first() -> None:
    spans = [("search", 0.0, 100.0), ("norm", 100.0, 400.0), ("search", 400.0, 700.0)]
    times = shares(spans, steps=2)
    assert list(times) == ["search", "norm"]
    assert times == pytest.approx({"search": 0.2, "norm": 0.15})


@pytest.mark.parametrize("preset", ["small", "base"])
def test_the_baseline_has_about_as_many_parameters(preset: str) -> None:
    with torch.device("meta"):
        vit = sum(parameter.numel() for parameter in VitMAE(SIZES[preset]).parameters())
    ours = sum(parameter.numel() for parameter in MaskedAutoencoder(ModelConfig.preset(preset)).parameters())
    assert vit == pytest.approx(ours, rel=0.1)


@pytest.mark.parametrize("side", [4, 33])
def test_the_baseline_codes_positions_as_he_et_al_do(side: int) -> None:
    """Neighbours are a radian apart in a grid of any size: all that attention of all tokens to all tokens knows of places."""
    width = 24
    model = VitMAE(VitSizes(width, 1, 1))
    grid, places = model._places(torch.zeros(1, 1, 8 * side, 8 * side))
    omega = 10000.0 ** -(np.arange(width // 4) / (width / 4))
    along = np.arange(side)[:, None] * omega
    axis = np.concatenate((np.sin(along), np.cos(along)), axis=1)
    expected = np.concatenate((np.tile(axis, (side, 1)), np.repeat(axis, side, axis=0)), axis=1)
    np.testing.assert_allclose(model._code(places, grid, width, torch.float32)[0], expected, atol=1e-4)


def test_the_baseline_learns_and_never_sees_what_is_hidden() -> None:
    torch.manual_seed(0)
    model = VitMAE(VitSizes(32, 2, 2, decoder_dim=32, decoder_depth=1, decoder_heads=2))
    images = torch.randn(2, 1, 32, 32)
    visible, hidden = draw_mask(2, (4, 4), 0.5, "random", torch.device("cpu"), None)
    seen = torch.zeros(2, 16).scatter_(1, visible, 1.0).view(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    tokens = []
    model.blocks[0].register_forward_pre_hook(lambda _, given: tokens.append(given[0].detach()))
    loss, _ = model.training_loss(images, visible, hidden)
    model.training_loss(images * seen, visible, hidden)
    assert torch.equal(tokens[0], tokens[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        now, _ = model.training_loss(images, visible, hidden)
        optimizer.zero_grad()
        torch.autograd.backward(now)
        optimizer.step()
    assert now < 0.7 * loss
