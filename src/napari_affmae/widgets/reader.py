"""What happens when a model file is dropped onto the viewer: the dock opens and takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelFileError
from .commands import open_dock

if TYPE_CHECKING:
    from napari.types import LayerData

KEY = "napari_affmae"
"""Key of our JSON in the metadata of a safetensors file; see :mod:`napari_affmae.model_header`."""

LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself refuses longer headers."""

ReaderFunction = Callable[[Any], "list[LayerData]"]


def get_reader(path: str | Sequence[str]) -> ReaderFunction | None:
    """Return a function that opens a model of ours, or None for any other file."""
    paths = [path] if isinstance(path, str) else list(path)
    return read_models if paths and all(is_ours(Path(one)) for one in paths) else None


def read_models(path: str | Sequence[str]) -> list[LayerData]:
    """Load a model into the dock; a model has no layers of its own.

    Raises
    ------
    ModelFileError
        If several models are opened at once, or there is no viewer.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if len(paths) > 1:
        raise ModelFileError(f"{len(paths)} models were opened at once, but one is used at a time: open them one by one")
    open_dock().load_model(Path(paths[0]))
    # What napari takes for "done, and no layers".
    return [(None,)]


def is_ours(path: Path) -> bool:
    """Whether a safetensors file was written by this package, whole or cut short; reads its header only, without torch."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if 0 < length <= LONGEST_HEADER else b""
    except OSError:
        return False
    try:
        header = json.loads(text)
    except ValueError:
        # A file of ours that was cut short is for the dock to complain about.
        return f'"{KEY}"'.encode() in text
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and KEY in metadata
