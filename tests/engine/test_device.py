"""Devices are resolved with clear errors, and a job leaves no trace in the process."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest
import torch
from affmae_kernels import KernelError

from napari_affmae.config import CARD_TILE, CPU_TILE
from napari_affmae.engine.device import (
    default_batch,
    default_tile,
    describe_device,
    device_errors,
    is_out_of_memory,
    limited_threads,
    make_fabric,
    mix,
    resolve_device,
    seeded,
)
from napari_affmae.errors import ConfigError, DeviceError
from napari_affmae.model_config import ModelConfig

CPU = torch.device("cpu")


def test_cuda_without_cuda_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"no CUDA device: .*use --device cpu"):
        resolve_device("cuda")


def test_mps_without_mps_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"no MPS device: .*use --device cpu"):
        resolve_device("mps")


def test_auto_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == CPU


def test_an_unknown_device_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="choose one of auto, cpu, cuda, mps"):
        resolve_device("tpu")  # type: ignore[arg-type]


def test_batches_shrink_with_the_tile_and_the_network() -> None:
    tiny, base = ModelConfig.preset("tiny"), ModelConfig.preset("base")
    assert default_batch(CPU, tiny, 256, whole=False) == 4
    assert default_batch(CPU, tiny, 256, whole=True) == 2
    assert default_batch(CPU, base, 1024, whole=False) == 1
    cuda = torch.device("cuda", 0)
    assert default_batch(cuda, ModelConfig.preset("small"), 256, whole=False) == 64
    assert default_batch(cuda, ModelConfig.preset("small"), 256, whole=True) == 16
    assert default_batch(cuda, base, 512, whole=False) < 16 < default_batch(cuda, tiny, 512, whole=False)


def test_tiles_are_larger_on_a_graphics_card() -> None:
    assert default_tile(CPU) == CPU_TILE == 256
    assert default_tile(torch.device("cuda", 0)) == default_tile(torch.device("mps")) == CARD_TILE == 512


def test_randomness_follows_from_seed_and_step_and_is_given_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(CPU, 1, 7) as generator:
        first = torch.rand(4), torch.rand(4, generator=generator)
    assert torch.equal(torch.rand(3), expected)
    with seeded(CPU, 1, 7) as generator:
        again = torch.rand(4), torch.rand(4, generator=generator)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(*first)
    with seeded(CPU, 1, 8):
        assert not torch.equal(first[0], torch.rand(4))


def test_mixed_seeds_do_not_collide() -> None:
    assert len({mix(seed, step) for seed in range(50) for step in range(200)}) == 10_000


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KernelError("the kernel of nearest failed; set AFFMAE_KERNELS=pytorch"), "^the kernel of nearest failed; set AFFMAE"),
        (KernelError("the kernel of nearest failed (CUDA: out of memory)"), "memory of cpu .* exhausted: lower the tile size"),
        (MemoryError(), "memory of cpu .* exhausted: lower the tile size"),
    ],
)
def test_what_a_job_cannot_make_up_for_is_a_device_error(error: Exception, said: str) -> None:
    with pytest.raises(DeviceError, match=said), device_errors(CPU, "lower the tile size"):
        raise error


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(RuntimeError, match="shapes") as caught, device_errors(CPU, "lower the tile size"):
        raise RuntimeError("shapes do not fit")
    assert caught.type is RuntimeError


@pytest.mark.parametrize(("word", "said"), [("fast", "got 'fast'"), ("triton", "use auto or pytorch")])
def test_kernels_that_cannot_be_had_come_to_light_before_any_work(
    word: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", word)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    worked = False
    with pytest.raises(DeviceError, match=said), device_errors(CPU, "lower the tile size"):
        worked = True
    assert not worked


def test_threads_are_limited_for_a_while() -> None:
    before = torch.get_num_threads()
    with limited_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        assert f"{before + 1} threads" in describe_device(CPU)
    assert torch.get_num_threads() == before


def test_fabric_is_silent_in_a_thread_and_leaves_the_process_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a cluster's shell is not to be taken for a distributed job
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGINT)
    devices: list[torch.device] = []
    thread = threading.Thread(target=lambda: devices.append(make_fabric(CPU).device))
    thread.start()
    thread.join()
    assert devices == [CPU]
    assert dict(os.environ) == environment
    assert signal.getsignal(signal.SIGINT) is handler
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_exhausted_memory_is_recognised(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("own", [None, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_memory_may_grow_unless_the_user_says_otherwise(own: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    if own is not None:
        monkeypatch.setenv(own, "max_split_size_mb:64")
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what is said stays in this test
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert resolve_device("cuda") == torch.device("cuda", 0)
    said = [os.environ[name] for name in names if name in os.environ]
    assert said == (["expandable_segments:True"] if own is None else ["max_split_size_mb:64"])
