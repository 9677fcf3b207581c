"""One trial: a method, what it may learn from, and for how long; and how a trial is written down."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from napari_affmae.bench.run import describe_machine
from napari_affmae.config import FinetuneConfig, PretrainConfig, Views
from napari_affmae.model_config import ModelConfig, PresetName

from .datasets import DATASETS, Dataset, Paint, Part

Method = Literal["affmae", "affmae-scratch", "vit-mae", "vit-scratch", "unet", "forest"]
METHODS: tuple[Method, ...] = ("affmae", "affmae-scratch", "vit-mae", "vit-scratch", "unet", "forest")

PRETRAINED = ("affmae", "vit-mae")
"""Methods that spend the minutes of pretraining on unlabelled images; the others spend them on the labelled ones, too."""


@dataclass(frozen=True)
class Trial:
    """What is compared.

    Attributes
    ----------
    labels
        Number of labelled images; None for all of the training split.
    minutes, finetune_minutes
        Of pretraining, and of finetuning behind it. A method without pretraining trains on labels for the sum.
    tile, pretrain_batch, batch
        Side of the tiles in pixels, tiles per step of pretraining and of training on labels.
    settings
        What differs from the defaults: fields of the product's settings with ``pretrain.``, ``model.`` or ``finetune.`` before
        them (the ViT takes its mask from ``model.``, too), or ``segment.views``, or ``rate``, ``layer_decay`` and
        ``pretrain_rate`` of the other networks, or ``norm`` of the U-Net.
    part
        ``"test"``, or ``"val"`` to choose settings by.
    """

    method: Method
    dataset: str = "em_vnc_sstem"
    labels: int | None = 4
    paint: Paint = "dense"
    seed: int = 0
    preset: PresetName = "small"
    minutes: float = 2.0
    finetune_minutes: float = 0.5
    tile: int = 256
    pretrain_batch: int = 64
    batch: int = 16
    part: Part = "test"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Dataset:
        """Return what is known about the data set."""
        return DATASETS[self.dataset]

    @property
    def labelled_minutes(self) -> float:
        """Return the minutes of training on labels."""
        return self.finetune_minutes + (0.0 if self.method in PRETRAINED else self.minutes)

    @property
    def views(self) -> Views:
        """Return how many views of a tile are averaged: ``segment.views`` of the settings."""
        views: Views = self.settings.get("segment.views", 1)
        return views

    def chosen(self, job: str) -> dict[str, Any]:
        """Return the settings of a job, without their prefix."""
        return {name.removeprefix(f"{job}."): value for name, value in self.settings.items() if name.startswith(f"{job}.")}


FOREST = ("method", "dataset", "labels", "paint", "seed", "part", "settings")
"""What decides a trial of the forest: it knows neither presets nor tiles nor minutes, and runs on the CPU."""


VIT_USUAL: dict[str, Any] = {"model.mask_kind": "random", "pretrain_rate": 5e-4}
"""How the ViT is pretrained unless a trial says otherwise: chosen on the validation split, as ours is."""


def differing(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a line that are not today's defaults of its method; a line may name what became one later."""
    usual = _usual(entry["method"])
    return {name: value for name, value in entry["settings"].items() if name not in usual or usual[name] != value}


def pretraining(trial: Trial) -> dict[str, Any]:
    """Return all settings that pretraining depends on beside the fields of the trial, those that are defaults, too."""
    settings = {**_usual(trial.method), **trial.settings}
    return {name: value for name, value in sorted(settings.items()) if name.startswith(("pretrain", "model"))}


@cache
def _usual(method: Method) -> dict[str, Any]:
    pretrain = PretrainConfig(model=ModelConfig()).model_dump(mode="json")
    parts = {"finetune": FinetuneConfig().model_dump(mode="json"), "model": pretrain.pop("model"), "pretrain": pretrain}
    usual = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    return {**usual, **VIT_USUAL} if method.startswith("vit") else usual


def identity(entry: dict[str, Any]) -> str:
    """Return what makes two lines the same trial: what differs from the defaults, and the device."""
    entry = {**entry, "settings": differing(entry)}
    if entry["method"] == "forest":
        return json.dumps({name: entry[name] for name in FOREST}, sort_keys=True)
    names = Trial.__dataclass_fields__
    return json.dumps({**{name: entry[name] for name in names}, "device": entry["machine"]["device"]}, sort_keys=True)


def line(trial: Trial, figures: dict[str, Any], device: torch.device, commit: str) -> dict[str, Any]:
    """Return a trial and its figures as one JSON-able line, with what must be known to repeat it."""
    machine = {**describe_machine(device), "cpu": platform.processor() or platform.machine()}
    return {
        **dataclasses.asdict(trial),
        **figures,
        "machine": machine,
        "commit": commit,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit_of_code() -> str:
    """Return the commit of the code, with a ``+`` behind it if files differ from it; ``"unknown"`` without git."""

    def git(*words: str) -> str:
        return subprocess.run(("git", *words), cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
