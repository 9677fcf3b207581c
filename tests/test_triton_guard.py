"""Starting a job in an open viewer must not crash the process, whatever LLVM the OpenGL driver brought along."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from affmae_kernels import _load_triton
from affmae_kernels._load_triton import TritonGuard, load_triton

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT / "kernels"))), "OMP_NUM_THREADS": "1"}
HAS_TRITON = sys.platform.startswith("linux") and importlib.util.find_spec("triton") is not None

VIEWER_FIRST = """
import sys
import numpy as np
import napari

viewer = napari.Viewer(show=True)
viewer.add_image(np.random.default_rng(0).random((128, 128)))
assert viewer.screenshot(canvas_only=True, flash=False).any()  # by now the driver has drawn, and brought its LLVM
assert not {"torch", "triton"} & set(sys.modules)

import napari_affmae as am
model = am.MaskedAutoencoder(am.ModelConfig.preset("tiny", embed_dims=(12, 24, 48, 64), depths=(1, 1, 1, 1)))
import torch
optimizer = torch.optim.AdamW(model.parameters())
model(torch.randn(1, 1, 64, 64)).loss.backward()
optimizer.step()

from affmae_kernels._load_triton import load_triton
viewer.add_image(np.random.default_rng(1).random((256, 256)), colormap="viridis")
assert viewer.screenshot(canvas_only=True, flash=False).any()
viewer.close()
print("state:", load_triton().state)
"""


@pytest.mark.slow
def test_a_training_step_in_an_open_viewer_survives():
    pytest.importorskip("napari")
    command = [sys.executable, "-X", "faulthandler", "-c", VIEWER_FIRST]
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        xvfb = shutil.which("xvfb-run")
        if xvfb is None:
            pytest.skip("no screen, and no xvfb-run to make one")
        command = [xvfb, "-a", *command]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"state: {'isolated' if HAS_TRITON else ''}" in done.stdout


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


GUARD_ALONE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("guard", {str(Path(_load_triton.__file__))!r})
guard = importlib.util.module_from_spec(spec)
sys.modules["guard"] = guard
spec.loader.exec_module(guard)
"""


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
def test_loading_leaves_the_interpreter_as_it_was():
    printed = python(
        GUARD_ALONE + "before = sys.getdlopenflags()\n"
        "first = guard.load_triton()\n"
        "assert first.state == 'isolated', first\n"
        "assert sys.getdlopenflags() == before\n"
        "assert not {'torch', 'triton'} & set(sys.modules)\n"  # the library, not the package: cheap
        "assert guard.load_triton() is first\n"
        "import triton\n"
        "library = sys.modules['triton._C.libtriton'].__file__\n"
        "maps = {line.split()[-1] for line in open('/proc/self/maps') if 'libtriton' in line}\n"
        "assert maps == {library}, maps\n"  # Triton's own import found the library that is there
        "print('fine')\n"
    )
    assert printed == "fine\n"


@pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
def test_coming_too_late_is_said():
    assert "too late" in python("import triton\n" + GUARD_ALONE + "print(guard.load_triton().state)")


@pytest.fixture
def fresh(monkeypatch):
    """The guard as if it had not run yet, on a system that needs it."""
    monkeypatch.setattr(_load_triton, "_guard", None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "RTLD_DEEPBIND", 8, raising=False)
    monkeypatch.delitem(sys.modules, _load_triton.MODULE, raising=False)
    return monkeypatch


def test_silent_without_triton(fresh, capsys):
    fresh.setattr(importlib.util, "find_spec", lambda name: None)
    assert load_triton().state == "absent"
    assert capsys.readouterr() == ("", "")


def test_broken_library_is_reported_not_raised(fresh, tmp_path):
    broken = tmp_path / "libtriton.so"
    broken.write_bytes(b"not a library")
    fresh.setattr(_load_triton, "_find_library", lambda: broken)
    guard = load_triton()
    assert guard.state == "failed"
    assert "reinstall triton" in guard.detail


def test_other_systems_need_nothing(fresh):
    fresh.setattr(sys, "platform", "darwin")
    assert load_triton().state == "not needed"


def test_many_threads_load_once(fresh):
    loads = []
    started = threading.Barrier(8)

    def load() -> TritonGuard:
        loads.append(1)
        return TritonGuard("absent", "")

    def race() -> None:
        started.wait()
        load_triton()

    fresh.setattr(_load_triton, "_load", load)
    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
