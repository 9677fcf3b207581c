"""``napari-affmae finetune``: learn classes from labelled images."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..config import FinetuneConfig
from ..control import JobControl
from .options import AsJson, Foreground, ImageFolder, LabelFolder, Sparse
from .progress import watch
from .there import require_there
from .training import TrainingOptions, print_run


def finetune(
    model: Annotated[str, Parameter(help='Run folder, model file, or "scratch:PRESET" for a network that has seen nothing.')],
    /,
    *,
    images: ImageFolder,
    labels: LabelFolder,
    training: TrainingOptions,
    classes: Annotated[
        int | None, Parameter(help="Number of classes, if some may be missing from the labels.", validator=Number(gte=2))
    ] = None,
    deform: Annotated[
        float | None,
        Parameter(help="Strength of random turns, stretching, waves, 0 to 1. [default: 0.5]", validator=Number(gte=0, lte=1)),
    ] = None,
    focus: Annotated[
        float | None, Parameter(help="Exponent of the focal loss, 0 to 5. [default: 0]", validator=Number(gte=0, lte=5))
    ] = None,
    average: Annotated[
        float | None,
        Parameter(help="What a step keeps of the weights' moving average. [default: 0, none]", validator=Number(gte=0, lt=1)),
    ] = None,
    sparse: Sparse = False,
    foreground: Foreground = False,
    json: AsJson = False,
) -> None:
    """Learn to tell classes apart from painted or fully labelled images. Without a budget: 400 steps."""
    require_there(None if model.startswith("scratch:") else model, images, labels)
    from ..data.labels import class_table
    from ..engine.finetune import finetune as run_finetuning
    from .labelled import read_labelled

    recipe = {name: value for name, value in (("deform", deform), ("focus", focus), ("average", average)) if value is not None}
    before = training.settings_before("finetune", FinetuneConfig) or FinetuneConfig()
    config = before.replace(**training.changes(), **recipe)
    labelled = read_labelled(
        images, labels, training.files, training.channels_or_before(), foreground=foreground, sparse=sparse
    )
    table = labelled.classes or class_table(labelled.examples, sparse=sparse, num_classes=classes, foreground=foreground)
    control = JobControl()
    events = run_finetuning(
        model,
        labelled.examples,
        training.out,
        config,
        classes=table,
        sparse=labelled.sparse,
        resume=training.resume,
        control=control,
    )
    done = watch(events, control)
    print_run(done, training.out, json)
