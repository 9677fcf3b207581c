"""What is here, what will run, and what is broken with what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import affmae_kernels
import torch
from affmae_kernels import KernelChoiceError
from affmae_kernels._dispatch import VARIABLE
from affmae_kernels._load_triton import TritonGuard, load_triton

from .. import __version__
from ..config import DeviceName
from ..errors import AffmaeError
from ..model.mae import MaskedAutoencoder
from ..model_config import ModelConfig
from .device import describe_device, device_errors, resolve_device

State = Literal["fine", "missing", "broken"]

OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 8)
LEAST_DISK = 2e9
LEAST_MEMORY = 2e9
"""Bytes below which a run is likely to fail."""

PACKAGES = (
    "torch", "triton", "lightning-fabric", "numpy", "scipy", "scikit-image", "tifffile", "zarr", "safetensors", "pydantic",
)  # fmt: skip
OPTIONAL = {
    "triton": "only GPU kernels use it",
    "triton-windows": "only GPU kernels use it",
}
GUI_PACKAGES = ("napari", "npe2", "qtpy", "superqt", "pyqtgraph", "magicgui")
QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
INSTALL_GUI = "needed for the dock only: pip install 'napari[all]'"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    topic
        ``"versions"``, ``"device"``, ``"kernels"``, ``"storage"`` or ``"self-check"``.
    name
        What was looked at.
    value
        What was found, in words.
    state
        ``"fine"``; ``"missing"`` for what one can do without; ``"broken"`` for what makes jobs fail.
    advice
        What to do; empty if nothing.
    """

    topic: str
    name: str
    value: str
    state: State = "fine"
    advice: str = ""


def examine(device: DeviceName = "auto", folder: Path | None = None) -> list[Finding]:
    """Look at everything a job needs.

    Parameters
    ----------
    device
        The device to check.
    folder
        Where runs are going to be written; None is the current folder.

    Returns
    -------
    list of Finding
        In the order to show. Nothing is raised for what is broken: it is a finding.
    """
    return [
        *_versions(),
        *_graphical(),
        *_device(device),
        *_kernels(device, load_triton()),
        *_storage(Path.cwd() if folder is None else folder),
        *_memory(),
        _self_check(device),
    ]


def is_broken(findings: list[Finding]) -> bool:
    """Whether anything makes jobs fail."""
    return any(finding.state == "broken" for finding in findings)


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("versions", "napari-affmae", __version__)
    system = f"{python} on {platform.system()} {platform.release()} ({platform.machine()})"
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("versions", "python", system, "broken", "install Python 3.11 or newer")
    else:
        yield Finding("versions", "python", system)
    for name in PACKAGES:
        yield _package("triton-windows" if name == "triton" and sys.platform == "win32" else name)


def _package(name: str) -> Finding:
    version = installed_version(name)
    if version is None and name in OPTIONAL:
        return Finding("versions", name, "not installed", "missing", OPTIONAL[name])
    if version is None:
        return Finding("versions", name, "not installed", "broken", f"pip install {name}")
    if name == "torch" and _release(version) < OLDEST_TORCH:
        return Finding("versions", name, version, "broken", "too old: pip install --upgrade 'torch>=2.8'")
    return Finding("versions", name, version)


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split("+")[0].split(".")[:2])


def _graphical() -> Iterator[Finding]:
    """Look for napari and Qt without importing them: a doctor must work on a machine without a screen."""
    for name in GUI_PACKAGES:
        version = installed_version(name)
        if version is None:
            yield Finding("versions", name, "not installed", "missing", INSTALL_GUI)
        else:
            yield Finding("versions", name, version)
    bindings = [f"{name} {installed_version(name)}" for name in QT_BINDINGS if importlib.util.find_spec(name) is not None]
    if bindings:
        yield Finding("versions", "Qt binding", ", ".join(bindings))
    else:
        yield Finding("versions", "Qt binding", "none", "missing", INSTALL_GUI)


def _device(name: DeviceName) -> Iterator[Finding]:
    try:
        device = resolve_device(name)
    except AffmaeError as error:
        yield Finding("device", name, "not available", "broken", str(error))
        return
    yield Finding("device", "jobs run on", describe_device(device))
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        major, minor = torch.cuda.get_device_capability(index)
        yield Finding(
            "device",
            f"cuda:{index}",
            f"{torch.cuda.get_device_name(index)}, {_size(free)} of {_size(total)} free, compute capability {major}.{minor}",
        )
    if torch.version.cuda is None and any(Path("/proc/driver/nvidia/gpus").glob("*")):
        yield Finding(
            "device", "NVIDIA card", "there, but this build of torch cannot use it", "missing",
            "for speed, install a CUDA build: pip install --force-reinstall torch",
        )  # fmt: skip


def _kernels(name: DeviceName, guard: TritonGuard) -> Iterator[Finding]:
    try:
        yield Finding("kernels", "all operators", affmae_kernels.describe(resolve_device(name)))
    except AffmaeError:
        pass  # a device that is not there is a finding of its own
    except KernelChoiceError as error:
        yield Finding("kernels", VARIABLE, os.environ[VARIABLE], "broken", str(error))
    state: State = "broken" if guard.state == "failed" else "missing" if guard.state == "too late" else "fine"
    advice = {
        "failed": "reinstall it: pip install --force-reinstall triton",
        "too late": "import affmae_kernels before torch in this process",
    }
    yield Finding("kernels", "triton beside OpenGL", f"{guard.state}: {guard.detail}", state, advice.get(guard.state, ""))


def _storage(folder: Path) -> Iterator[Finding]:
    for name, place in (("this folder", folder), ("temporary files", Path(tempfile.gettempdir()))):
        yield _writable(name, place)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding(
            "storage", "disk space", f"unknown ({error.strerror or error})", "broken", f"choose another folder than {folder}"
        )
        return
    if free < LEAST_DISK:
        yield Finding("storage", "disk space", f"{_size(free)} free", "broken", f"free some space on the disk of {folder}")
    else:
        yield Finding("storage", "disk space", f"{_size(free)} free")


def _writable(name: str, folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"napari-affmae")
    except OSError as error:
        advice = f"choose a folder that you may write to ({error.strerror or error})"
        return Finding("storage", name, f"{folder} cannot be written", "broken", advice)
    return Finding("storage", name, f"{folder} can be written")


def _memory() -> Iterator[Finding]:
    available, total = memory()
    if total is None:
        return
    value = _size(total) if available is None else f"{_size(available)} of {_size(total)} available"
    if available is not None and available < LEAST_MEMORY:
        yield Finding("storage", "memory", value, "broken", "close other programs; a tiny run needs about 2 GB")
    else:
        yield Finding("storage", "memory", value)


def memory() -> tuple[float | None, float | None]:
    """Return available and total bytes of main memory, as far as the system says."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        entries = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        kilobytes = {name: float(entries[name].split()[0]) for name in ("MemAvailable", "MemTotal") if name in entries}
        return tuple(kilobytes[n] * 1024 if n in kilobytes else None for n in ("MemAvailable", "MemTotal"))  # type: ignore[return-value]
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        return None, float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return None, None


def _self_check(name: DeviceName) -> Finding:
    return self_check(name, _one_step)


def self_check(name: DeviceName, step: Callable[[torch.device], str]) -> Finding:
    """Run ``step`` on a device and turn whatever it raises into a finding."""
    advice = "reinstall torch; if it stays, report it with this table"
    try:
        device = resolve_device(name)
        with device_errors(device, "take a machine with more memory"):
            return Finding("self-check", "one training step", step(device))
    except AffmaeError as error:
        return Finding("self-check", "one training step", "not run", "broken", str(error))
    except (RuntimeError, OSError, ImportError) as error:
        return Finding("self-check", "one training step", f"{type(error).__name__}: {error}", "broken", advice)


def _one_step(device: torch.device) -> str:
    """Make one forward and backward pass and one optimizer step of a very small network."""
    config = ModelConfig.preset("tiny", embed_dims=(12, 24, 48, 64), depths=(1, 1, 1, 1), decoder_dim=32)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model = MaskedAutoencoder(config).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        loss = model(torch.randn(1, 1, 64, 64).to(device)).loss
        loss.backward()
        optimizer.step()
    if not torch.isfinite(loss):
        raise RuntimeError(f"the loss is {loss.item()}, expected a finite number")
    unused = [n for n, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    if unused:
        raise RuntimeError(f"the gradient of {unused[0]} is not finite")
    return f"forward, backward and AdamW on {device.type}, loss {loss.item():.3f}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
