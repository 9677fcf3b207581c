"""``napari-affmae evaluate``: compare a segmenter's output with labels."""

from __future__ import annotations

from .options import AsJson, Device, Files, Foreground, ImageFolder, LabelFolder, Model, Sparse
from .output import print_result
from .progress import counting


def evaluate(
    model: Model,
    /,
    *,
    images: ImageFolder,
    labels: LabelFolder,
    files: Files = None,
    sparse: Sparse = False,
    foreground: Foreground = False,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Measure a model on labelled images: intersection over union per class, their mean, and accuracy."""
    from ..engine.evaluate import evaluate as run_evaluation
    from .labelled import read_labelled

    labelled = read_labelled(images, labels, files, foreground=foreground, sparse=sparse)
    examples = labelled.examples
    with counting("evaluate") as on_progress:
        result = run_evaluation(model, examples, device=device or "auto", sparse=labelled.sparse, on_progress=on_progress)
    figures = {
        "miou": result.miou,
        "iou": result.iou,
        "accuracy": result.accuracy,
        "majority_miou": result.majority_miou,
        "images": len(examples),
        "pixels": result.pixels,
    }
    print_result({**figures, "confusion": result.confusion} if json else figures, json)
