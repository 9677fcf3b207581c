"""Which device a job runs on, in which precision, with how many threads, and what is random on it."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import affmae_kernels
import torch
from affmae_kernels import KernelChoiceError, KernelError
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import nn
from torch.torch_version import TorchVersion

from ..config import CARD_TILE, CPU_TILE, DeviceName
from ..errors import ConfigError, DeviceError
from ..model_config import ModelConfig

_CUDA_WORK = 16 * 512**2, 4 * 512**2
"""Pixels of a pretraining and of a finetuning step of the ``small`` preset on a graphics card. Many small steps teach more in
a few minutes than few large ones: 64 and 16 tiles of 256² are what the README's figures were measured with."""

_CPU_WORK = 4 * 256**2, 2 * 256**2
"""The same of the ``tiny`` preset on a CPU: few, so that a step stays short and a viewer beside it alive."""


def resolve_device(name: DeviceName) -> torch.device:
    """Turn a setting into a device that is there; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    DeviceError
        If the device was asked for by name and this machine, or this build of torch, does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        _let_memory_grow()
        if not torch.cuda.is_available():
            why, remedy = (
                ("this build of torch has no CUDA support", "install one that has, see pytorch.org")
                if torch.version.cuda is None
                else ("torch finds none", "repair the graphics driver")
            )
            raise DeviceError(f"no CUDA device: {why}; use --device cpu (or device 'auto'), or {remedy}")
        return torch.device("cuda", torch.cuda.current_device())
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no MPS device: it needs a Mac with Apple silicon; use --device cpu (or device 'auto')")
    if name not in ("cpu", "mps"):
        raise ConfigError(f"unknown device {name!r}: choose one of auto, cpu, cuda, mps")
    return torch.device(name)


def _let_memory_grow() -> None:
    """Ask torch for memory segments that grow, which leaves fewer holes between tensors.

    It has to be said before torch first takes memory on a card. A setting of the user's own wins.
    """
    variable = "PYTORCH_ALLOC_CONF" if TorchVersion(torch.__version__) >= "2.9" else "PYTORCH_CUDA_ALLOC_CONF"
    if sys.platform == "linux" and not os.environ.keys() & {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}:
        os.environ[variable] = "expandable_segments:True"


def describe_device(device: torch.device) -> str:
    """Name a device for people, for example ``"cuda (NVIDIA H100)"`` or ``"cpu (2 threads)"``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'' if threads == 1 else 's'})"
    return device.type


def default_batch(device: torch.device, config: ModelConfig, tile: int, *, whole: bool) -> int:
    """Choose how many tiles make a step, from the work that a tile of this size is for this network; a power of two, 1 to 128.

    ``whole`` says that the network sees all patches and decodes at all of them, not at half of them as in pretraining.
    """
    work, reference = (
        (_CPU_WORK, ModelConfig.preset("tiny")) if device.type == "cpu" else (_CUDA_WORK, ModelConfig.preset("small"))
    )
    pixels = work[whole] * _cost(reference) / _cost(config)
    return 1 << min(7, max(0, round(math.log2(pixels / tile**2))))


def default_tile(device: torch.device) -> int:
    """Choose the side of training tiles in pixels, for settings that leave it open."""
    return CPU_TILE if device.type == "cpu" else CARD_TILE


def make_fabric(device: torch.device) -> Fabric:
    """Return a Fabric that places, scales and back-propagates on one device, and says nothing while it does.

    Precision is bfloat16 mixed on a card that computes in it, float16 mixed on older ones, float32 elsewhere. A cluster's
    environment variables are not looked at: a job is one process on one device.
    """
    # Fabric advises about tensor cores through its logger; the precision here is chosen already.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(
        accelerator=device.type,
        devices=[device.index] if device.type == "cuda" and device.index is not None else 1,
        precision=mixed_precision(device),
        plugins=[LightningEnvironment()],
    )


def mixed_precision(device: torch.device) -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """Name the precision of a device as Fabric spells it."""
    if device.type != "cuda":
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


def inference_autocast(device: torch.device) -> torch.autocast:
    """Return the context in which a network predicts: the mixed precision that it was trained in on this device."""
    precision = mixed_precision(device)
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "32-true")


def narrow_copies(model: nn.Module) -> AbstractContextManager[object]:
    """Return the context in which a network's linear layers share one cast of all weights; for use inside autocast."""
    device = next(model.parameters()).device.type
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return affmae_kernels.NarrowCopies(model.parameters(), torch.get_autocast_dtype(device))


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Let torch use this many CPU threads for a while; None leaves it as it is.

    Torch takes every core by default, which starves a graphical interface in the same process: a job started from one leaves
    a core free.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


@contextmanager
def seeded(device: torch.device, seed: int, step: int) -> Iterator[torch.Generator]:
    """Make everything random inside follow from the seed and the step alone, and give the caller's random state back.

    Yields a generator on the device for masks and augmentation; dropout draws from torch's default generator.
    """
    mixed = mix(seed, step)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mixed)
        yield torch.Generator(device).manual_seed(mixed ^ 0x5DEECE66D)


def mix(seed: int, step: int) -> int:
    """Mix a seed and a step into 63 well-spread bits (the finaliser of splitmix64)."""
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory is exhausted; MPS and the CPU's allocator raise plain RuntimeErrors."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)


@contextmanager
def device_errors(device: torch.device, advice: str) -> Iterator[None]:
    """Turn what a job cannot make up for on its device into a :class:`DeviceError` that says what to do.

    That is exhausted memory, with ``advice`` as the first thing to do; a kernel that failed, and an ``AFFMAE_KERNELS`` that
    cannot be obeyed, whose own messages name the way out. The latter comes to light before any work.
    """
    try:
        affmae_kernels.report(device)
        yield
    except (RuntimeError, MemoryError, KernelChoiceError) as error:
        if is_out_of_memory(error):
            where = describe_device(device)
            raise DeviceError(
                f"memory of {where} is exhausted: {advice}, close other programs that use it, or take another device"
            ) from error
        if isinstance(error, KernelError | KernelChoiceError):
            raise DeviceError(str(error)) from error
        raise


def _cost(config: ModelConfig) -> float:
    """Work of a network per pixel, relative: width times depth, over the area of a patch."""
    return sum(width * depth for width, depth in zip(config.embed_dims, config.depths, strict=True)) / config.patch_size**2
