"""Which implementation runs, and that the reason is said; no GPU needed."""

from __future__ import annotations

from types import SimpleNamespace

import affmae_kernels
import pytest
import torch
from affmae_kernels import KernelChoiceError, describe, nearest, report
from affmae_kernels import _dispatch as dispatch

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def set_capability(monkeypatch: pytest.MonkeyPatch, major: int, minor: int) -> None:
    card = SimpleNamespace(major=major, minor=minor)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFFMAE_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", True)
    monkeypatch.setattr(torch.version, "hip", None)
    set_capability(monkeypatch, 9, 0)


def test_auto_takes_the_kernels_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    assert dispatch.runs_in_triton(CUDA, torch.bfloat16)
    assert not dispatch.runs_in_triton(CUDA, torch.float64)
    assert not dispatch.runs_in_triton(CPU, torch.float32)
    assert describe("cuda").startswith("operators run in triton: a card with Triton")


@pytest.mark.parametrize(
    ("dtype", "limit", "reason"),
    [
        (torch.float64, None, "not torch.float64"),
        (torch.float32, "17 sites per point; the kernel keeps at most 8", "17 sites per point"),
    ],
)
def test_what_the_kernels_cannot_do_is_said(
    dtype: torch.dtype, limit: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    with pytest.raises(ValueError, match=f"{reason}.*use auto or pytorch"):
        dispatch.runs_in_triton(CUDA, dtype, limit)


def test_that_limits_send_an_operator_to_pytorch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    assert not dispatch.runs_in_triton(CUDA, torch.float32, "17 sites per point; the kernel keeps at most 8")
    assert describe("cuda").endswith("; in pytorch what is beyond a kernel's limits")


def test_old_gpus_and_missing_triton_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    set_capability(monkeypatch, 7, 5)
    assert "this GPU has (7, 5)" in describe("cuda")
    set_capability(monkeypatch, 9, 0)
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", False)
    assert "pip install triton" in describe("cuda")


def test_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "pytorch")
    assert not dispatch.runs_in_triton(CUDA, torch.float32)
    assert describe("cuda") == "operators run in pytorch: AFFMAE_KERNELS=pytorch"
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    assert dispatch.runs_in_triton(CUDA, torch.float32)
    place = torch.zeros(1, 2, 2)
    for refuses in (lambda: nearest(place, place, 1), lambda: report("cpu"), lambda: describe("cpu")):
        with pytest.raises(KernelChoiceError, match="the tensors are on cpu; use auto or pytorch"):
            refuses()
    monkeypatch.setenv("AFFMAE_KERNELS", "fast")
    with pytest.raises(ValueError, match="AFFMAE_KERNELS must be auto, pytorch or triton, got 'fast'"):
        nearest(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), 1)


def test_every_operator_is_reported() -> None:
    entries = report("cpu")
    assert [entry.operator for entry in entries] == list(dispatch.OPERATORS)
    assert {entry.operator for entry in entries} <= set(affmae_kernels.__all__)
    assert {entry.implementation for entry in entries} == {"pytorch"}
    assert all("cpu" in entry.why for entry in entries)
