"""What a command is pointed at is looked for first, so that a slip of the pen costs no seconds of loading torch."""

from __future__ import annotations

from pathlib import Path

from ..data.there import require_images, require_labels
from ..model_places import locate_model


def require_there(model: Path | str | None, images: Path | None = None, labels: Path | None = None) -> None:
    """Look for a model, images and labels.

    Raises
    ------
    ModelFileError, DataError, LabelError
        If one of them is not there.
    """
    if model is not None:
        locate_model(model)
    if images is not None:
        require_images(images)
    if labels is not None:
        require_labels(labels)
