"""Importing the engine into an open viewer leaves the window's thread room to run."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from napari_affmae.engine._whole_imports import without_collections

IMPORT = """
import gc, sys
full = []
gc.callbacks.append(lambda phase, info: full.append(phase) if info["generation"] == 2 else None)
before = len(full)
import napari_affmae.engine.live
assert "torch" in sys.modules and "torch._dynamo" in sys.modules
# Python 3.12 and later freeze a few objects of their own.
assert gc.isenabled() and gc.get_freeze_count() < 10_000
print(len(full) - before, len(gc.get_objects(generation=2)) > 300_000)
"""

LOAD = """
import sys, threading, time
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("imports", sys.argv[1])
imports = module_from_spec(spec)
spec.loader.exec_module(imports)
worker = threading.Thread(target=imports.load_torch_library)
worker.start()
turns = 0
while worker.is_alive():
    time.sleep(0.001)
    turns += 1
assert "torch" not in sys.modules
print("libtorch_cpu" in open("/proc/self/maps").read(), turns > 10)
import torch
assert float(torch.ones(3, 3).matmul(torch.ones(3, 3)).sum()) == 27
"""


class Node:
    """Something that the collector looks at."""


@pytest.fixture
def collections():
    """The generations that were collected since."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_no_collection_looks_through_what_an_import_makes(collections):
    with without_collections():
        kept = [Node() for _ in range(100_000)]
        assert not collections
    more = [Node() for _ in range(50_000)]
    assert gc.isenabled()
    assert 2 not in collections
    assert any(one is kept[0] for one in gc.get_objects(generation=2))
    assert not any(one is more[-1] for one in gc.get_objects(generation=2))


def test_garbage_from_meanwhile_is_collected_later():
    with without_collections():
        node = Node()
        node.itself = node
        gone = weakref.ref(node)
        del node
    assert gone() is not None
    gc.collect()
    assert gone() is None


def test_who_has_switched_collections_off_keeps_them_off():
    gc.disable()
    try:
        with without_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_engine_is_imported_without_a_full_collection():
    said = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["0", "True"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's loader is asked")
def test_torch_s_library_is_loaded_ahead_while_other_threads_run():
    from napari_affmae.engine import _whole_imports

    said = subprocess.run([sys.executable, "-c", LOAD, _whole_imports.__file__], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True"]
