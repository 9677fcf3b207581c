"""What a model file says about itself: read without its weights, and without torch, so that a window can ask at any time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from .card import ModelCard
from .config import ModelConfig
from .errors import AffmaeError, ModelFileError

MODEL_FILE = "model.safetensors"
"""Name of the model inside a run folder."""

KEY = "napari_affmae"
"""Key of our JSON in the metadata of a safetensors file."""

FORMAT = 1

RUN_NAME = re.compile(r"(pretrain|finetune)-(\d+)")
"""Names of the run folders in a project."""

Kind = Literal["mae", "segmenter"]


@dataclass(frozen=True)
class ModelFileHeader:
    """What a model file says about itself, readable without its weights.

    Attributes
    ----------
    kind
        ``"mae"`` or ``"segmenter"``.
    num_classes
        Classes of a segmenter, None for a masked autoencoder.
    readout
        Whether a segmenter has a readout, as live training gives it one.
    """

    kind: Kind
    config: ModelConfig
    num_classes: int | None
    card: ModelCard
    readout: bool = False


def read_card(path: str | Path) -> ModelFileHeader:
    """Read what a model file says about itself, without its weights.

    Raises
    ------
    ModelFileError
        If there is no such file, it is truncated, or it was not written by this package.
    """
    path = locate_model(path)
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged or not a safetensors file ({error}); save or export the model again"
        ) from error
    if text is None:
        raise ModelFileError(f"{path} was not written by napari-affmae; for a .pth of the paper use import-checkpoint")
    return _parse(path, text)


def locate_model(path: str | Path) -> Path:
    """Return the model file at a path, in the run folder at that path, or in the newest run of the project folder there.

    Of a project, a network with classes goes before one without. Raises :class:`ModelFileError` if there is none.
    """
    path = Path(path)
    if path.is_dir():
        inside = path / MODEL_FILE
        if not inside.is_file() and (newest := _newest_run(path)) is not None:
            inside = newest / MODEL_FILE
        if not inside.is_file():
            raise ModelFileError(f"no model in {path}: expected a file {MODEL_FILE}; has the run saved one yet?")
        return inside
    if not path.is_file():
        raise ModelFileError(f"no model at {path}: give a model file or a run folder")
    return path


def _newest_run(project: Path) -> Path | None:
    """Return the numbered run of a project that saved a model last."""
    named = ((run, RUN_NAME.fullmatch(run.name)) for run in project.iterdir())
    runs = [(match[1] == "finetune", int(match[2]), run) for run, match in named if match and (run / MODEL_FILE).is_file()]
    return max(runs)[2] if runs else None


def _parse(path: Path, text: str) -> ModelFileHeader:
    try:
        header: Any = json.loads(text)
        if not isinstance(header, Mapping) or header.get("format") != FORMAT:
            raise ModelFileError(f"{path} has a format this version does not know; update napari-affmae")
        config = ModelConfig.model_validate(header["config"])
        card = ModelCard.model_validate(header["card"])
        kind, num_classes = header["kind"], header["num_classes"]
    except AffmaeError as error:
        raise ModelFileError(f"the settings in {path} cannot be read: {error}") from error
    except (ValueError, KeyError) as error:
        raise ModelFileError(f"the settings in {path} are damaged: {type(error).__name__} {error}") from error
    if (kind, num_classes is None) not in {("mae", True), ("segmenter", False)}:
        raise ModelFileError(f"{path} holds a model of unknown kind {kind!r}")
    return ModelFileHeader(kind, config, num_classes, card, bool(header.get("readout")))
