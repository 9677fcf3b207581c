"""Options that pretraining and finetuning share, and how what was typed becomes settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter
from cyclopts.validators import Number, mutually_exclusive

from ..config import CARD_TILE, CPU_TILE, Budget
from ..errors import ConfigError, StorageError
from ..events import Done, Job
from ..model_header import DATA_FILE
from ..settings import Settings
from ..words import CLASSES_FROM, count, duration, thousands
from .options import Batch, Channels, Device, Files
from .output import print_result

_ONE_BUDGET = Group("Budget (one of)", validator=mutually_exclusive)

_TILE_HELP = (
    f"Side of the square tiles in pixels. [default: {CPU_TILE} on a CPU, {CARD_TILE} on a graphics card, less for small "
    "images; when finetuning, that of the model]"
)

SomeSettings = TypeVar("SomeSettings", bound=Settings)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Where a training writes, for how long it runs, and on what.

    None stands for what was not typed: only what is typed replaces a default, or the settings of the run that is resumed.
    """

    out: Annotated[Path, Parameter(help="Run folder to write; must be new, or hold the run to resume.")]
    files: Files = None
    channels: Channels = None
    steps: Annotated[int | None, Parameter(help="Train for so many steps.", group=_ONE_BUDGET, validator=Number(gte=1))] = None
    epochs: Annotated[float | None, Parameter(help="Train for so many passes.", group=_ONE_BUDGET, validator=Number(gt=0))] = (
        None
    )
    minutes: Annotated[
        float | None, Parameter(help="Train for so many minutes.", group=_ONE_BUDGET, validator=Number(gt=0))
    ] = None
    tile: Annotated[int | None, Parameter(help=_TILE_HELP, validator=Number(gte=16))] = None
    batch: Batch = None
    device: Device = None
    seed: Annotated[int | None, Parameter(help="Everything random follows from it. [default: 0]", validator=Number(gte=0))] = (
        None
    )
    resume: Annotated[bool, Parameter(negative="", help="Go on with the run that is in the folder, with its settings.")] = False

    def changes(self) -> dict[str, Any]:
        """Return what was typed, by the names that settings have for it."""
        budget = _given(steps=self.steps, epochs=self.epochs, minutes=self.minutes)
        typed = _given(tile=self.tile, batch=self.batch, device=self.device, seed=self.seed)
        return typed | ({"budget": Budget(**budget)} if budget else {})

    def channels_or_before(self) -> list[int] | None:
        """Return the channels that were typed, or those that the run to resume took; None for all.

        Raises
        ------
        StorageError
            If the run's data cannot be read.
        """
        path = self.out / DATA_FILE
        if self.channels is not None or not self.resume or not path.is_file():
            return self.channels
        try:
            channels: list[int] | None = json.loads(path.read_bytes()).get("channels")
            return channels
        except (OSError, ValueError, AttributeError) as error:
            raise StorageError(f"{path} cannot be read ({error}); start a new run in another folder") from error

    def settings_before(self, job: Job, kind: type[SomeSettings]) -> SomeSettings | None:
        """Read the settings that the run to resume was started with; None for a new run.

        Raises
        ------
        StorageError
            If there is no run in the folder, or its settings cannot be read.
        ConfigError
            If it is a run of another job.
        """
        if not self.resume:
            return None
        path = self.out / "config.json"
        if not path.is_file():
            raise StorageError(f"no run to resume in {self.out}: expected a file config.json; start it without --resume")
        try:
            written = json.loads(path.read_bytes())
            if written["job"] == job:
                return kind(**written["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{path} cannot be read ({error}); start a new run in another folder") from error
        raise ConfigError(f"{self.out} holds a {written['job']} run, not {job}: give the folder of such a run")


def print_run(done: Done, run: Path, as_json: bool) -> None:
    """Print how a training ended: all figures for programs, those that need no explanation for people."""
    figures = dict(done.summary)
    first, last = figures.get("mean_loss_first"), figures.get("mean_loss_last")
    shown = {
        "model": done.path,
        "steps": thousands(figures["steps"]),
        "left out": count(figures["left_out_steps"], "step") if figures["left_out_steps"] else "",
        "time": duration(figures["seconds"]),
        "loss": f"{first:.3g} → {last:.3g} (means of its first and last tenth)" if last is not None else "",
        "images": figures["images"],
        "tiles": f"{figures['batch']} per step",
        "labelled": f"{thousands(sum(figures.get('painted_pixels', ())))} pixels" if "painted_pixels" in figures else "",
        "classes from": CLASSES_FROM.get(figures.get("classes_from", ""), ""),
    }
    if "held_out_miou" in figures:
        shown["mIoU"] = f"{figures['held_out_miou']:.3f} on {thousands(figures['held_out_pixels'])} pixels kept back"
        shown["IoU"] = figures["held_out_iou"]
    print_result({"model": done.path, "run": run, **figures}, as_json, shown)


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
