"""Self-supervised segmentation of microscopy with adaptive tokens, in napari and on the command line.

Importing this package loads neither torch nor Qt; each public name loads what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Budget, FinetuneConfig, PretrainConfig
    from .control import JobControl
    from .engine.evaluate import evaluate
    from .engine.finetune import finetune
    from .engine.inspect import Inspection, inspect
    from .engine.pretrain import pretrain
    from .engine.segment import SegmentationResult, segment
    from .model.mae import MAEOutput, MaskedAutoencoder
    from .model.model_file import load_model, save_model
    from .model.reference_checkpoint import load_reference_checkpoint
    from .model.segmenter import Segmenter, SegmenterOutput
    from .model_config import ModelConfig

__version__ = "0.1.0"

_HOMES = {
    "Budget": "config",
    "FinetuneConfig": "config",
    "ModelConfig": "model_config",
    "PretrainConfig": "config",
    "JobControl": "control",
    "evaluate": "engine.evaluate",
    "finetune": "engine.finetune",
    "Inspection": "engine.inspect",
    "inspect": "engine.inspect",
    "pretrain": "engine.pretrain",
    "SegmentationResult": "engine.segment",
    "segment": "engine.segment",
    "MAEOutput": "model.mae",
    "MaskedAutoencoder": "model.mae",
    "load_model": "model.model_file",
    "save_model": "model.model_file",
    "load_reference_checkpoint": "model.reference_checkpoint",
    "Segmenter": "model.segmenter",
    "SegmenterOutput": "model.segmenter",
}

__all__ = [
    "Budget",
    "FinetuneConfig",
    "Inspection",
    "JobControl",
    "MAEOutput",
    "MaskedAutoencoder",
    "ModelConfig",
    "PretrainConfig",
    "SegmentationResult",
    "Segmenter",
    "SegmenterOutput",
    "evaluate",
    "finetune",
    "inspect",
    "load_model",
    "load_reference_checkpoint",
    "pretrain",
    "save_model",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
