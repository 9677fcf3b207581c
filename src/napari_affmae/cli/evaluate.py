"""``napari-affmae evaluate``: compare a segmenter's output with labels."""

from __future__ import annotations

from .options import AsJson, Device, Files, Foreground, ImageFolder, LabelFolder, Model, Sparse
from .output import print_result


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
    from ..model.model_file import load_model
    from .labelled import read_labelled

    segmenter = load_model(model)
    examples = read_labelled(images, labels, files, foreground=foreground, sparse=sparse)
    result = run_evaluation(segmenter, examples, device=device or "auto", sparse=sparse)
    print_result(
        {
            "miou": result.miou,
            "iou": dict(result.iou),
            "accuracy": result.accuracy,
            "majority_miou": result.majority_miou,
            "images": len(examples),
            "pixels": result.pixels,
            "confusion": result.confusion,
        },
        json,
    )
