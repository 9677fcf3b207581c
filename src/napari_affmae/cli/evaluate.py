"""``napari-affmae evaluate``: compare a segmenter's output with labels."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from ..config import Budget, DeviceName, FinetuneConfig
from ..control import JobControl
from ..errors import ConfigError
from .options import AsJson, Channels, Device, Files, Foreground, ImageFolder, LabelFolder, Model, Sparse, ViewCount
from .output import print_result
from .progress import counting, watch
from .there import require_there

if TYPE_CHECKING:
    from .labelled import Labelled


def evaluate(
    model: Model,
    /,
    *,
    images: ImageFolder,
    labels: LabelFolder,
    files: Files = None,
    channels: Channels = None,
    sparse: Sparse = False,
    foreground: Foreground = False,
    compare: Annotated[
        Literal["scratch"] | None,
        Parameter(help="Train MODEL, a pretrained network, and a fresh one on the labels, and score both on a part kept back."),
    ] = None,
    steps: Annotated[
        int | None, Parameter(help="Steps of each training of --compare. [default: 400]", validator=Number(gte=1))
    ] = None,
    tile: Annotated[
        int | None,
        Parameter(help="Side of the square tiles of --compare, in pixels. [default: that of MODEL]", validator=Number(gte=16)),
    ] = None,
    views: ViewCount = 1,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Measure a model on labelled images: intersection over union per class, their mean, and accuracy.

    With ``--json``, ``majority_miou`` is the mean for calling every pixel the most frequent class: a model should be above it.

    With ``--compare scratch`` it answers whether pretraining helped.
    """
    for option, given in (("--steps", steps), ("--tile", tile)):
        if compare is None and given is not None:
            raise ConfigError(f"{option} is for the trainings of a comparison: add --compare scratch, or leave it away")
    if compare is not None and views != 1:
        raise ConfigError("--compare scores single views, as every training does: give it without --views")
    require_there(model, images, labels)
    from ..engine.evaluate import evaluate as run_evaluation
    from .labelled import read_labelled

    labelled = read_labelled(images, labels, files, channels, foreground=foreground, sparse=sparse)
    examples = labelled.examples
    if compare == "scratch":
        print_result(_compared(model, labelled, steps, tile, device or "auto"), json)
        return
    with counting("evaluate") as on_progress:
        result = run_evaluation(
            model,
            examples,
            device=device or "auto",
            views=views,
            sparse=labelled.sparse,
            classes=labelled.classes,
            on_progress=on_progress,
        )
    for notice in result.notices:
        print(f"note: {notice}", file=sys.stderr)
    figures = {
        "miou": result.miou,
        "iou": result.iou,
        "accuracy": result.accuracy,
        "majority_miou": result.majority_miou,
        "images": len(examples),
        "pixels": result.pixels,
    }
    shown = {
        "mIoU": f"{result.miou:.3f} ({result.majority_miou:.3f} for calling every pixel the most frequent class)",
        "IoU": result.iou,
        **{name: figures[name] for name in ("accuracy", "images", "pixels")},
    }
    print_result({**figures, "confusion": result.confusion}, json, shown)


def _compared(model: Path, labelled: Labelled, steps: int | None, tile: int | None, device: DeviceName) -> dict[str, Any]:
    """Return the figures of the comparison with a network from scratch."""
    from ..engine.compare import as_figures
    from ..engine.compare import compare as run_comparison

    settings: dict[str, Any] = {"device": device, "tile": tile} | ({} if steps is None else {"budget": Budget(steps=steps)})
    control = JobControl()
    with tempfile.TemporaryDirectory() as folder:
        events = run_comparison(
            model,
            labelled.examples,
            folder,
            FinetuneConfig(**settings),
            classes=labelled.classes,
            sparse=labelled.sparse,
            control=control,
        )
        return as_figures(watch(events, control).result)
