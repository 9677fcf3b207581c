"""``napari-affmae pretrain``: learn from unlabelled images."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..config import ModelConfig, PresetName, PretrainConfig
from ..control import JobControl
from .options import AsJson, Batch, Device, Epochs, Files, Images, Minutes, Resume, Run, Seed, Steps, Tile
from .output import print_result
from .progress import counting, watch
from .settings import given, given_budget, settings_of_run


def pretrain(
    images: Images,
    /,
    *,
    out: Run,
    files: Files = None,
    preset: Annotated[PresetName | None, Parameter(help="Size of the network. [default: tiny]")] = None,
    tile: Tile = None,
    steps: Steps = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    batch: Batch = None,
    device: Device = None,
    seed: Seed = None,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Learn from unlabelled images by predicting hidden parts of them. Without a budget: 10 minutes."""
    from ..data.scan import scan
    from ..engine.pretrain import pretrain as run_pretraining

    before = settings_of_run(out, PretrainConfig) if resume else None
    with counting("read") as on_progress:
        collection = scan(images, files, on_progress=on_progress)
    if before is None or preset is not None:
        model = ModelConfig.preset(preset or "tiny", in_channels=collection.channels)
    else:
        model = before.model
    typed = given(tile=tile, batch=batch, device=device, seed=seed) | given_budget(steps, epochs, minutes)
    config = PretrainConfig(model=model, **typed) if before is None else before.replace(model=model, **typed)
    control = JobControl()
    done = watch(run_pretraining(collection, out, config, resume=resume, control=control), control)
    print_result({"model": done.path, "run": out, **done.summary}, json)
