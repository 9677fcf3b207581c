"""Model files: one safetensors file that holds the weights and, as JSON in its header, everything else. Never pickle."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from .. import __version__
from ..errors import ModelFileError, cannot_write
from ..model_header import FORMAT, KEY, read_card
from ..model_places import MODEL_FILE, locate_model
from ..whole_file import replace_file
from .joined_layers import join_layers
from .mae import MaskedAutoencoder
from .readout import Readout
from .segmenter import Segmenter

_LONGEST_REASON = 300
"""Characters of an error that may list every tensor of the network."""


def save_model(model: MaskedAutoencoder | Segmenter, path: str | Path, **provenance: Any) -> Path:
    """Write a model to one file; either the whole new file is there afterwards or the old one still is.

    Parameters
    ----------
    path
        File to write, or an existing folder, which gets ``model.safetensors``.
    provenance
        JSON-able facts about where the model comes from; added, with date and version, to the history of ``model.card`` once
        the file is there.

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
    card = model.card
    if provenance:
        record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "version": __version__, **provenance}
        try:
            json.dumps(record)
        except TypeError as error:
            raise ModelFileError(f"provenance must be JSON-able: {error}") from error
        card = card.replace(history=(*card.history, record))
    header = {
        "format": FORMAT,
        "kind": "segmenter" if isinstance(model, Segmenter) else "mae",
        "num_classes": model.num_classes if isinstance(model, Segmenter) else None,
        "readout": isinstance(model, Segmenter) and model.readout is not None,
        "config": model.config.model_dump(mode="json"),
        "card": card.model_dump(mode="json"),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    try:
        # Serialised in memory first: safetensors' own writer reports a full disk as a bare I/O error of its Rust core.
        replace_file(path, safetensors.torch.save(weights, metadata={KEY: json.dumps(header)}))
    except OSError as error:
        raise cannot_write(path, error) from error
    model.card = card
    return path


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
    if isinstance(model, Segmenter) and header.readout:
        model.readout = Readout(model.config, model.num_classes)
    try:
        model.load_state_dict(join_layers(safetensors.torch.load_file(path)))
    except (SafetensorError, OSError, RuntimeError) as error:
        why = str(error).strip().splitlines()[-1].strip()[:_LONGEST_REASON]
        raise ModelFileError(
            f"the weights in {path} are damaged or do not fit its settings ({why}): copy the file again from where it came "
            "from, or save the model again"
        ) from error
    model.card = header.card
    return model.eval()
