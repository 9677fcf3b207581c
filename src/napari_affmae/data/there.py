"""Whether what a user names is there at all: asked first, before anything slow is loaded or read."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DataError, LabelError


def require_images(path: Path) -> None:
    """Raise :class:`DataError` if there is nothing at the path of images."""
    if not os.path.exists(path):
        raise DataError(f"{path} is not there; expected a folder of images or an image file")


def require_labels(path: Path) -> None:
    """Raise :class:`LabelError` if there is nothing at the path of labels."""
    if not os.path.exists(path):
        raise LabelError(f"{path} is not there; expected a folder of label images named as the images are")
