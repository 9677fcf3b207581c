"""What a model file says about itself: read without its weights, and without torch, so that a window can ask at any time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from .card import ModelCard
from .errors import AffmaeError, ModelFileError
from .model_config import ModelConfig
from .model_places import MODEL_FILE, locate_model

DATA_FILE = "data.json"
"""Name of the file in a run folder that says which images and labels the run began with."""

KEY = "napari_affmae"
"""Key of our JSON in the metadata of a safetensors file."""

CHECKPOINT_KEY = "napari_affmae_checkpoint"
"""The same of a checkpoint."""

FORMAT = 1

_IMPORT = "a .pth of the paper is brought in with napari-affmae import-checkpoint"

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
            others = set(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelFileError(_what_else(path, str(error))) from error
    if text is None:
        if CHECKPOINT_KEY in others:
            raise ModelFileError(
                f"{path} is a run's checkpoint and no model: choose {MODEL_FILE} beside it, or the folder of the run"
            )
        raise ModelFileError(f"{path} was not written by napari-affmae: choose a model that was saved with it; {_IMPORT}")
    return _parse(path, text)


def count_parameters(path: str | Path) -> int:
    """Return the number of weights in a model file, from its header alone.

    Raises
    ------
    ModelFileError
        As :func:`read_card`.
    """
    path = locate_model(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  not iterable
    except (SafetensorError, OSError) as error:
        raise ModelFileError(_what_else(path, str(error))) from error


def _what_else(path: Path, error: str) -> str:
    """Say what a file that is no safetensors file seems to be, and what to do."""
    with suppress(OSError), path.open("rb") as file:
        start = file.read(4)
        if start == b"PK\x03\x04":  # zip; PyTorch's own files are zips, too
            return (
                f"{path} is a zip file: a package for other programs, perhaps; load the .safetensors that it was made from; "
                f"{_IMPORT}"
            )
        if start == b"\x89HDF" or path.suffix.lower() in (".pth", ".pt", ".ckpt", ".h5", ".onnx"):
            return (
                f"{path} is a model of another program: choose a .safetensors file that was saved with napari-affmae; {_IMPORT}"
            )
    return (
        f"{path} is damaged or not a safetensors file ({error}): copy it again from where it came from, or save the model again"
    )


def _parse(path: Path, text: str) -> ModelFileHeader:
    try:
        header: Any = json.loads(text)
        if not isinstance(header, Mapping) or header.get("format") != FORMAT:
            raise ModelFileError(f"{path} has a format this version does not know; update napari-affmae")
        config = ModelConfig.model_validate(header["config"])
        card = ModelCard.model_validate(header["card"])
        kind, num_classes = header["kind"], header["num_classes"]
    except ModelFileError:
        raise
    except (AffmaeError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())
        raise ModelFileError(
            f"the settings in {path} are damaged, or of a newer version ({type(error).__name__}: {why}): "
            "update napari-affmae, or save the model again"
        ) from error
    if (kind, num_classes is None) not in [("mae", True), ("segmenter", False)]:
        raise ModelFileError(f"{path} holds a model of unknown kind {kind!r}; update napari-affmae")
    _check_card(path, config, num_classes, card)
    return ModelFileHeader(kind, config, num_classes, card, bool(header.get("readout")))


def _check_card(path: Path, config: ModelConfig, num_classes: Any, card: ModelCard) -> None:
    """Raise :class:`ModelFileError` if a card does not fit its network: its classes or channels would be taken for others."""
    wrong = None
    if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 2):
        wrong = f"{num_classes!r} classes"
    elif num_classes is not None and card.classes and len(card.classes) != num_classes:
        wrong = f"{len(card.classes)} names for {num_classes} classes"
    elif card.normalisation is not None and len(card.normalisation.mean) != config.in_channels:
        wrong = f"statistics of {len(card.normalisation.mean)} channels for {config.in_channels}"
    if wrong is not None:
        raise ModelFileError(f"the card in {path} does not fit its network ({wrong}): save the model again, or train it again")
