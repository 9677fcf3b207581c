"""``napari-affmae finetune``: learn classes from labelled images."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..config import FinetuneConfig
from ..control import JobControl
from .options import (
    AsJson,
    Batch,
    Device,
    Epochs,
    Files,
    Foreground,
    ImageFolder,
    LabelFolder,
    Minutes,
    Resume,
    Run,
    Seed,
    Sparse,
    Steps,
    Tile,
)
from .output import print_result
from .progress import watch
from .settings import given, given_budget, settings_of_run


def finetune(
    model: Annotated[str, Parameter(help='Run folder, model file, or "scratch:PRESET" for a network that has seen nothing.')],
    /,
    *,
    images: ImageFolder,
    labels: LabelFolder,
    out: Run,
    files: Files = None,
    steps: Steps = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    classes: Annotated[
        int | None, Parameter(help="Number of classes, if some may be missing from the labels.", validator=Number(gte=2))
    ] = None,
    sparse: Sparse = False,
    foreground: Foreground = False,
    tile: Tile = None,
    batch: Batch = None,
    device: Device = None,
    seed: Seed = None,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Learn to tell classes apart from painted or fully labelled images. Without a budget: 400 steps."""
    from ..data.labels import class_table
    from ..engine.finetune import finetune as run_finetuning
    from .labelled import read_labelled

    base = settings_of_run(out, FinetuneConfig) if resume else FinetuneConfig()
    config = base.replace(**given(tile=tile, batch=batch, device=device, seed=seed), **given_budget(steps, epochs, minutes))
    examples = read_labelled(images, labels, files, foreground=foreground, sparse=sparse)
    table = class_table(examples, sparse=sparse, num_classes=classes, foreground=foreground)
    control = JobControl()
    events = run_finetuning(model, examples, out, config, classes=table, sparse=sparse, resume=resume, control=control)
    done = watch(events, control)
    print_result({"model": done.path, "run": out, **done.summary}, json)
