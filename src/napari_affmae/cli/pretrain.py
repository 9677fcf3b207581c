"""``napari-affmae pretrain``: learn from unlabelled images."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..config import PretrainConfig
from ..control import JobControl
from ..errors import ConfigError
from ..model_config import ModelConfig, PresetName, Selection
from .options import AsJson, Images
from .progress import counting, watch
from .training import TrainingOptions, print_run


def pretrain(
    images: Images,
    /,
    *,
    training: TrainingOptions,
    preset: Annotated[PresetName | None, Parameter(help="Size of the network. [default: tiny]")] = None,
    selection: Annotated[
        Selection | None,
        Parameter(
            help="Which tokens survive a merge: global, the best of the whole image, as in the paper; local, those that stand "
            "out from their neighbourhood, so that no part of an image is emptied. [default: global]"
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Learn from unlabelled images by predicting hidden parts of them. Without a budget: 10 minutes."""
    from ..data.scan import scan

    before = training.settings_before("pretrain", PretrainConfig)
    with counting("read") as on_progress:
        collection = scan(images, training.files, training.channels_or_before(), on_progress=on_progress)
    from ..engine.pretrain import pretrain as run_pretraining

    model = ModelConfig.preset(preset or "tiny", in_channels=collection.channels) if before is None else before.model
    if before is not None and preset is not None and not model.is_preset(preset):
        raise ConfigError(
            f"the run in {training.out} has a network of another size than --preset {preset}: resume it without --preset, or "
            "start a new run in another folder"
        )
    if selection is not None:
        model = model.replace(selection=selection)
    typed = {"model": model, **training.changes()}
    config = PretrainConfig(**typed) if before is None else before.replace(**typed)
    control = JobControl()
    events = run_pretraining(collection, training.out, config, resume=training.resume, control=control)
    done = watch(events, control)
    print_run(done, training.out, json)
