"""Run cases: from a case to a line of numbers. ``ours_…`` is the engine as it is used, ``vit_…`` the baseline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import affmae_kernels
import numpy as np
import torch

from ..engine.device import is_out_of_memory
from ..engine.predictor import Predictor
from ..errors import AffmaeError
from ..model.mae import MaskedAutoencoder
from ..model.segmenter import Segmenter
from ..model_config import ModelConfig
from .cases import Case
from .measure import latency, milliseconds, operations, peak_gib, start_memory, trace
from .self_check import wrong_operators
from .steps import Step, batch_of, our_step, vit_step
from .vit_mae import SIZES, VitMAE

Line = dict[str, Any]

CLASSES = 5
MOST_IMAGES = 1024


def check_operators(device: torch.device) -> None:
    """Raise :class:`AffmaeError` if an operator is wrong on a device: nothing is measured then."""
    wrong = wrong_operators(device)
    if wrong:
        raise AffmaeError("no figures: operators are wrong on this machine; " + "; ".join(wrong))


def describe_machine(device: torch.device) -> dict[str, str]:
    """Say what the figures were measured on."""
    name = device.type.upper()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"CPU, {torch.get_num_threads()} threads"
    return {"device": name, "torch": torch.__version__, "operators": affmae_kernels.describe(device)}


def measure(case: Case) -> Line:
    """Measure one case on the device that it is for."""
    device = torch.device("cuda", torch.cuda.current_device()) if case.device == "cuda" else torch.device("cpu")
    kinds: dict[str, Callable[[Case, torch.device], Line]] = {
        "training": _training,
        "segmentation": _segmentation,
        "first step": _first_step,
        "largest batch": _largest_batch,
    }
    return {"case": case.name, "kind": case.kind, **kinds[case.kind](case, device)}


def _training(case: Case, device: torch.device) -> Line:
    line = _step_figures("ours", partial(our_step, case.preset, case.side, case.batch, device), device)
    line["ours_gflop"] = _training_operations(case, device, ours=True)
    if case.preset in SIZES and device.type == "cuda":
        start = partial(vit_step, case.preset, case.side, case.batch, device, compiled=True)
        line.update(_step_figures("vit", start, device))
        line["vit_gflop"] = _training_operations(case, device, ours=False)
        line["ratio"] = line["ours_ms"] / line["vit_ms"]
    return line


def _step_figures(who: str, start: Callable[[], Step], device: torch.device) -> Line:
    start_memory(device)
    step = start()
    for _ in range(3):  # kernels are built, the step is recorded or compiled
        step().item()
    line: Line = {f"{who}_ms": milliseconds(step, device), f"{who}_gib": peak_gib(device)}
    if device.type == "cuda":
        line[f"{who}_idle"], line[f"{who}_kernels"] = trace(step)
    return line


def _training_operations(case: Case, device: torch.device, *, ours: bool) -> float:
    """Return GFLOP of forward and backward passes per image."""
    if ours:
        model: MaskedAutoencoder | VitMAE = MaskedAutoencoder(ModelConfig.preset(case.preset)).to(device)
    else:
        model = VitMAE(SIZES[case.preset]).to(device)
    batch = batch_of(1, case.side, device)

    def both() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss, _ = model.training_loss(*batch)
        torch.autograd.backward(loss)

    return operations(both) / 1e9


def _segmentation(case: Case, device: torch.device) -> Line:
    start_memory(device)
    model = Segmenter(ModelConfig.preset(case.preset), CLASSES)
    predictor = Predictor(model, device)
    tile = np.random.default_rng(0).normal(size=(case.batch, 1, case.side, case.side)).astype(np.float32)
    for _ in range(3):
        predictor(tile)
    call = partial(predictor, tile)
    return {"ours_ms": latency(call) if device.type == "cuda" else milliseconds(call, device), "ours_gib": peak_gib(device)}


def _first_step(case: Case, device: torch.device) -> Line:
    """Two new processes one after the other, with caches of kernels that are empty for the first."""
    seconds = []
    with tempfile.TemporaryDirectory(prefix="napari-affmae-bench-") as caches:
        names = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
        environment = {**os.environ, **{name: os.path.join(caches, name) for name in names}}
        for _ in range(2):
            result = subprocess.run(
                [sys.executable, "-m", "napari_affmae.bench.first_step"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode:
                raise AffmaeError(f"the first step failed in a process of its own: {result.stderr.strip()[-300:]}")
            seconds.append(json.loads(result.stdout.splitlines()[-1])["seconds"])
    return {"cold_s": seconds[0], "warm_s": seconds[1]}


def _largest_batch(case: Case, device: torch.device) -> Line:
    total = torch.cuda.get_device_properties(device).total_memory
    if case.gib is None or case.gib * 2**30 > total:
        return {"gib": case.gib, "skipped": f"the card has {total / 2**30:.0f} GiB"}
    torch.cuda.set_per_process_memory_fraction(case.gib * 2**30 / total, device)
    try:
        ours = largest(lambda size: _fits(partial(our_step, case.preset, case.side, size, device)))
        vit = largest(lambda size: _fits(partial(vit_step, case.preset, case.side, size, device, compiled=False)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    return {"gib": case.gib, "ours_images": ours, "vit_images": vit}


def largest(fits: Callable[[int], bool], most: int = MOST_IMAGES) -> int:
    """Return the largest batch that fits, to an eighth: 0 if not even one image does, at most ``most``."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _fits(start: Callable[[], Step]) -> bool:
    start_memory(torch.device("cuda"))
    try:
        step = start()
        for _ in range(3):
            step().item()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
