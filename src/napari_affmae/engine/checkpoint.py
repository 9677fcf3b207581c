"""Checkpoints: all that a run needs to go on as if it had never ended, in one safetensors file. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..card import ModelCard
from ..errors import AffmaeError, ModelFileError
from ..events import Job
from ..model_header import CHECKPOINT_KEY
from .run_folder import write_whole

_FORMAT = 2


@dataclass(frozen=True)
class Progressed:
    """How far a run is.

    Attributes
    ----------
    step
        Optimizer steps done.
    elapsed
        Seconds of work, pauses not counted.
    batch
        Tiles per step.
    passes
        Parts that a batch is cut into to fit into memory.
    skipped
        Steps whose loss or gradient was not finite, so that nothing was learned from them.
    scaler
        State of the loss scaling, in float16 runs only.
    """

    step: int = 0
    elapsed: float = 0.0
    batch: int | None = None
    passes: int = 1
    skipped: int = 0
    scaler: dict[str, float] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, on the CPU.

    Attributes
    ----------
    record
        JSON values of the run that its model's history will hold: its curve, its figures, and the data that it has read.
    """

    job: Job
    progressed: Progressed
    card: ModelCard
    record: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]]
    average: dict[str, Tensor]


def save_checkpoint(
    path: Path,
    job: Job,
    progressed: Progressed,
    card: ModelCard,
    record: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all; ``average`` is that of the weights by their names, where one is kept.

    Raises
    ------
    StorageError
        If it cannot be written; the previous checkpoint is still there then.
    """
    # A readout is fitted behind the last step: it is no part of what training goes on from.
    tensors = {f"model.{name}": value for name, value in model.state_dict().items() if not name.startswith("readout.")}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors |= {f"average.{name}": value for name, value in (average or {}).items()}
    header = {
        "format": _FORMAT,
        "job": job,
        "progressed": asdict(progressed),
        "card": card.model_dump(mode="json"),
        "record": dict(record),
    }
    on_cpu = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    write_whole(path, save(on_cpu, metadata={CHECKPOINT_KEY: json.dumps(header)}))


def load_checkpoint(path: Path, job: Job) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    ModelFileError
        If it is missing, truncated, or not a checkpoint of such a job.
    """
    if not path.is_file():
        raise ModelFileError(
            f"no checkpoint in {path.parent}: the run ended before it saved one; start it again without --resume"
        )
    weights: dict[str, Tensor] = {}
    optimizer: dict[str, dict[str, Tensor]] = {}
    average: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(CHECKPOINT_KEY)
            if text is None:
                raise ModelFileError(f"{path} is no checkpoint of napari-affmae; choose the folder of a run")
            for key in file.keys():  # noqa: SIM118  safe_open is not iterable
                part, _, name = key.partition(".")
                if part in ("model", "average"):
                    (weights if part == "model" else average)[name] = file.get_tensor(key)
                else:
                    state, _, parameter = name.partition(".")
                    optimizer.setdefault(parameter, {})[state] = file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged ({error}); the weights may still be in model.safetensors beside it: "
            "start a new run in another folder"
        ) from error
    progressed, card, record = _parse(path, text, job)
    return Checkpoint(job, progressed, card, record, weights, optimizer, average)


def _parse(path: Path, text: str, job: Job) -> tuple[Progressed, ModelCard, dict[str, Any]]:
    try:
        header: dict[str, Any] = json.loads(text)
        if header["format"] > _FORMAT:
            raise ModelFileError(f"{path} has a format this version does not know; update napari-affmae")
        if header["format"] < _FORMAT:
            raise ModelFileError(f"{path} was begun by an older version: go on with that one, or start a new run")
        if header["job"] != job:
            raise ModelFileError(f"{path} belongs to a {header['job']} run, not to {job}; choose the folder of such a run")
        return Progressed(**header["progressed"]), ModelCard(**header["card"]), dict(header["record"])
    except AffmaeError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged: its header cannot be read ({type(error).__name__} {error})") from error


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint into a model and its optimizer, which may be on any device.

    Raises
    ------
    ModelFileError
        If the checkpoint is of a network of another size.
    """
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ModelFileError(f"the checkpoint is of another network than this run's settings describe: {first}") from error
    ids = {parameter: number for number, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state = {
        ids[parameter]: checkpoint.optimizer[name]
        for name, parameter in model.named_parameters()
        if name in checkpoint.optimizer
    }
    # Learning rates and weight decay are those of the new settings, so only the moments come from the file.
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
