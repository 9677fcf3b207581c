"""Model files: one safetensors file that holds the weights and, as JSON in its header, everything else. Never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from safetensors import SafetensorError, safe_open

from .. import __version__
from ..card import ModelCard
from ..config import ModelConfig
from ..errors import AffmaeError, ModelFileError, StorageError
from .mae import MaskedAutoencoder
from .segmenter import Segmenter

MODEL_FILE = "model.safetensors"
"""Name of the model inside a run folder."""

KEY = "napari_affmae"
FORMAT = 1

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
    """

    kind: Kind
    config: ModelConfig
    num_classes: int | None
    card: ModelCard


def save_model(model: MaskedAutoencoder | Segmenter, path: str | Path, **provenance: Any) -> Path:
    """Write a model to one file; either the whole new file is there afterwards or the old one still is.

    Parameters
    ----------
    path
        File to write, or an existing folder, which gets ``model.safetensors``.
    provenance
        JSON-able facts about where the model comes from; added, with date and version, to the history of ``model.card``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StorageError
        If it cannot be written, for example because the disk is full.
    ModelFileError
        If the provenance cannot be written as JSON.
    """
    path = Path(path)
    path = path / MODEL_FILE if path.is_dir() else path
    if provenance:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "version": __version__, **provenance}
        try:
            json.dumps(record)
        except TypeError as error:
            raise ModelFileError(f"provenance must be JSON-able: {error}") from error
        model.card = model.card.replace(history=(*model.card.history, record))
    header = {
        "format": FORMAT,
        "kind": "segmenter" if isinstance(model, Segmenter) else "mae",
        "num_classes": model.num_classes if isinstance(model, Segmenter) else None,
        "config": model.config.model_dump(mode="json"),
        "card": model.card.model_dump(mode="json"),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Serialised in memory first: safetensors' own writer reports a full disk as a bare I/O error of its Rust core.
        partial.write_bytes(safetensors.torch.save(weights, metadata={KEY: json.dumps(header)}))
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. Free some space or choose another folder"
        ) from error
    return path


def read_card(path: str | Path) -> ModelFileHeader:
    """Read what a model file says about itself, without its weights.

    Raises
    ------
    ModelFileError
        If there is no such file, it is truncated, or it was not written by this package.
    """
    path = locate_model(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged or not a safetensors file ({error}); save or export the model again"
        ) from error
    if text is None:
        raise ModelFileError(f"{path} was not written by napari-affmae; for a .pth of the paper use import-checkpoint")
    return _parse(path, text)


def load_model(path: str | Path) -> MaskedAutoencoder | Segmenter:
    """Load a model, in evaluation mode on the CPU.

    Parameters
    ----------
    path
        A model file, or a run folder that holds one.

    Raises
    ------
    ModelFileError
        If there is no such file, it is truncated, it was not written by this package, or its tensors do not fit its settings.
    """
    path = locate_model(path)
    header = read_card(path)
    model: MaskedAutoencoder | Segmenter
    model = MaskedAutoencoder(header.config) if header.num_classes is None else Segmenter(header.config, header.num_classes)
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelFileError(f"the weights in {path} are damaged or do not fit its settings: {error}") from error
    model.card = header.card
    return model.eval()


def locate_model(path: str | Path) -> Path:
    """Return the model file at a path, or in the run folder at that path; raise :class:`ModelFileError` if there is none."""
    path = Path(path)
    if path.is_dir():
        inside = path / MODEL_FILE
        if not inside.is_file():
            raise ModelFileError(f"no model in {path}: expected a file {MODEL_FILE}; has the run saved one yet?")
        return inside
    if not path.is_file():
        raise ModelFileError(f"no model at {path}: give a model file or a run folder")
    return path


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
    return ModelFileHeader(kind, config, num_classes, card)
