"""The doctor finds what is broken, says what to do, and never falls ill itself."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import affmae_kernels
import pytest
import torch

from napari_affmae.cli import main
from napari_affmae.engine import doctor
from napari_affmae.engine.doctor import Finding, examine, is_broken


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_a_healthy_machine_is_healthy(tmp_path):
    findings = by_name(examine("cpu", tmp_path))
    assert not is_broken(list(findings.values()))
    assert findings["torch"].value == torch.__version__
    assert findings["jobs run on"].value.startswith("cpu")
    assert findings["one training step"].value.startswith("forward, backward and AdamW on cpu")
    assert findings["all operators"].value == affmae_kernels.describe("cpu")


def test_the_self_check_leaves_the_random_state_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    doctor._one_step(torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_json_and_exit_code(capsys):
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert {finding["topic"] for finding in report["findings"]} == {"versions", "device", "kernels", "storage", "self-check"}


@pytest.fixture
def quick(monkeypatch):
    """No training step: these tests are about the other lines."""
    monkeypatch.setattr(doctor, "_one_step", lambda device: "left out")
    return monkeypatch


def test_table_for_people(quick, capsys):
    assert main(["doctor", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "All is well." in out
    assert "operators run in" in out


def test_a_wrong_word_for_the_kernels_is_broken(monkeypatch, capsys):
    monkeypatch.setenv("AFFMAE_KERNELS", "fast")
    assert main(["doctor", "--device", "cpu", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    broken = {finding["name"]: finding for finding in report["findings"] if finding["state"] == "broken"}
    assert broken["AFFMAE_KERNELS"]["topic"] == "kernels"
    assert broken["AFFMAE_KERNELS"]["value"] == "fast"
    assert "auto, pytorch or triton" in broken["AFFMAE_KERNELS"]["advice"]
    assert "auto, pytorch or triton" in broken["one training step"]["advice"], "not: reinstall torch"


def test_kernels_that_cannot_run_are_broken(quick, tmp_path):
    quick.setenv("AFFMAE_KERNELS", "triton")
    finding = by_name(examine("cpu", tmp_path))["AFFMAE_KERNELS"]
    assert (finding.value, finding.state) == ("triton", "broken")
    assert "need a CUDA device" in finding.advice
    assert "use auto or pytorch" in finding.advice


def test_kernels_are_those_of_the_device_in_question(quick, tmp_path):
    quick.setattr(affmae_kernels, "describe", lambda device=None: f"operators of {device}")
    assert by_name(examine("cpu", tmp_path))["all operators"].value == "operators of cpu"


def test_triton_has_another_name_on_windows(quick):
    quick.setattr(sys, "platform", "win32")
    quick.setattr(doctor, "installed_version", lambda name: None if name == "triton" else "4.5.6")
    findings = by_name(list(doctor._versions()))
    assert findings["triton-windows"].value == "4.5.6"
    assert "triton" not in findings


def test_failing_step_is_a_finding(monkeypatch):
    def fail(device: torch.device) -> str:
        raise RuntimeError("illegal instruction")

    finding = doctor.self_check("cpu", fail)
    assert finding.state == "broken"
    assert "illegal instruction" in finding.value
    assert "reinstall torch" in finding.advice


def test_missing_package_is_broken_and_names_the_command(quick, tmp_path):
    real = doctor.installed_version
    quick.setattr(doctor, "installed_version", lambda name: None if name in {"zarr", "triton", "napari"} else real(name))
    findings = by_name(examine("cpu", tmp_path))
    assert (findings["zarr"].state, findings["zarr"].advice) == ("broken", "pip install zarr")
    assert findings["triton"].state == "missing"
    assert (findings["napari"].state, findings["napari"].advice) == ("missing", doctor.INSTALL_GUI)


def test_old_torch(quick, tmp_path):
    real = doctor.installed_version
    quick.setattr(doctor, "installed_version", lambda name: "2.7.1+cpu" if name == "torch" else real(name))
    finding = by_name(examine("cpu", tmp_path))["torch"]
    assert finding.state == "broken"
    assert "torch>=2.8" in finding.advice


def test_no_card_when_cuda_is_asked_for(quick, tmp_path):
    quick.setattr(torch.cuda, "is_available", lambda: False)
    findings = by_name(examine("cuda", tmp_path))
    assert findings["cuda"].state == "broken"
    assert "--device cpu" in findings["cuda"].advice


def test_folder_that_cannot_be_written(quick, tmp_path, capsys):
    assert main(["doctor", "--device", "cpu", "--folder", str(tmp_path / "nowhere")]) == 1
    out = capsys.readouterr().out
    assert "cannot be written" in out
    assert "choose" in out


def test_full_disk(quick, tmp_path):
    quick.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**12, 10**12 - 10**6, 10**6))
    finding = by_name(examine("cpu", tmp_path))["disk space"]
    assert finding.state == "broken"
    assert "free some space" in finding.advice


def test_little_memory(quick, tmp_path):
    quick.setattr(doctor, "memory", lambda: (1e9, 8e9))
    finding = by_name(examine("cpu", tmp_path))["memory"]
    assert finding.state == "broken"
    assert finding.value == "1.0 GB of 8.0 GB available"


def test_memory_is_read(tmp_path):
    available, total = doctor.memory()
    if not Path("/proc/meminfo").is_file():
        pytest.skip("this system does not say how much memory is free")
    assert available is not None
    assert total is not None
    assert 0 < available < total


@pytest.mark.parametrize(("state", "expected"), [("failed", "broken"), ("too late", "missing"), ("isolated", "fine")])
def test_state_of_the_guard(state, expected):
    finding = list(doctor._kernels("cpu", doctor.TritonGuard(state, "why")))[-1]
    assert finding.state == expected
    assert bool(finding.advice) == (expected != "fine")
