"""Painted labels, from files or layers to training targets: the names that the engine and the widgets use."""

from __future__ import annotations

from .classes import IGNORE, class_table, default_classes, ids_in, places_by_name, to_targets
from .label_images import LabelledImage, pair_labels, to_foreground
from .labelled_tiles import HeldOut, LabelledSampler

__all__ = [
    "IGNORE",
    "HeldOut",
    "LabelledImage",
    "LabelledSampler",
    "class_table",
    "default_classes",
    "ids_in",
    "pair_labels",
    "places_by_name",
    "to_foreground",
    "to_targets",
]
