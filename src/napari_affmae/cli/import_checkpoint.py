"""``napari-affmae import-checkpoint``: bring in the paper's released weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..errors import ModelFileError, StorageError
from ..model_places import MODEL_FILE
from .options import AsJson, Overwrite
from .output import print_result


def import_checkpoint(
    file: Annotated[Path, Parameter(help="A .pth file of the paper's released models.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Model file to write (.safetensors).")],
    classes: Annotated[
        int | None,
        Parameter(help="Number of classes, if it is a segmenter and its shapes do not tell.", validator=Number(gte=2)),
    ] = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Turn a checkpoint of the paper into a model file. Nothing in it is executed."""
    if not file.is_file():
        raise ModelFileError(f"no checkpoint at {file}: give the path of a .pth file")
    from ..model.model_file import save_model
    from ..model.reference_checkpoint import load_reference_checkpoint
    from ..model.segmenter import Segmenter

    target = out / MODEL_FILE if out.is_dir() else out
    if target.exists() and not overwrite:
        raise StorageError(f"{target} is there already; choose another name, or pass --overwrite to replace it")
    model = load_reference_checkpoint(file, num_classes=classes)
    path = save_model(model, target, job="import-checkpoint", source=file.name)
    print_result(
        {
            "model": path,
            "kind": "segmenter" if isinstance(model, Segmenter) else "mae",
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "config": model.config.model_dump(mode="json"),
        },
        json,
    )
