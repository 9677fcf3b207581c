"""Labelled images for a command, with what had to be skipped said on stderr."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..card import ClassInfo
from ..data.label_images import UNPAINTED
from ..data.labels import LabelledImage, pair_labels
from ..data.project_folder import is_project
from ..data.project_labels import pair_project
from ..data.records import Skipped
from ..errors import ConfigError


@dataclass(frozen=True)
class Labelled:
    """Images with labels; ``classes`` is None where the labels do not say what their ids are called."""

    examples: list[LabelledImage]
    sparse: bool
    classes: tuple[ClassInfo, ...] | None = None


def read_labelled(
    images: Path, labels: Path, files: str | None, channels: list[int] | None, *, foreground: bool, sparse: bool
) -> Labelled:
    """Pair images with label files, or with the paint of a project folder.

    See :func:`~napari_affmae.data.label_images.pair_labels` and :func:`~napari_affmae.data.project_labels.pair_project`.

    Raises
    ------
    ConfigError
        If ``foreground`` is asked of a project.
    """
    if is_project(labels):
        if foreground:
            raise ConfigError(f"{labels} is a project, whose paint has classes of its own; leave --foreground away")
        examples, skipped, classes = pair_project(images, labels, files, channels)
        found = Labelled(examples, True, classes)
    else:
        examples, skipped = pair_labels(images, labels, files, foreground=foreground, sparse=sparse, channels=channels)
        found = Labelled(examples, sparse)
    say_skipped(skipped)
    return found


def painted_in(
    images: Path, labels: Path, files: str | None, channels: list[int] | None, said: Collection[Skipped]
) -> dict[str, npt.NDArray[Any]]:
    """Return paint ``[H, W]`` by name of the image, from label files or a project folder.

    Most images may have none. Paint that cannot be used is listed on stderr, with whatever else is left out but for what was
    ``said``.
    """
    if is_project(labels):
        examples, skipped, _ = pair_project(images, labels, files, channels)
    else:
        examples, skipped = pair_labels(images, labels, files, sparse=True, channels=channels)
    say_skipped(item for item in skipped if item not in said and not item.reason.startswith(UNPAINTED))
    return {example.name: example.labels for example in examples}


def say_skipped(skipped: Iterable[Skipped]) -> None:
    """List on stderr what was left out and why."""
    for item in skipped:
        print(f"note: skipped {item.name}: {item.reason}", file=sys.stderr)
