"""Labelled images for a command, with what had to be skipped said on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ..data.labels import LabelledImage, pair_labels
from ..data.records import Skipped


def read_labelled(images: Path, labels: Path, files: str | None, *, foreground: bool, sparse: bool) -> list[LabelledImage]:
    """Pair images with their labels; see :func:`~napari_affmae.data.label_images.pair_labels`."""
    examples, skipped = pair_labels(images, labels, files, foreground=foreground, sparse=sparse)
    say_skipped(skipped)
    return examples


def say_skipped(skipped: Iterable[Skipped]) -> None:
    """List on stderr what was left out and why."""
    for item in skipped:
        print(f"note: skipped {item.name}: {item.reason}", file=sys.stderr)
