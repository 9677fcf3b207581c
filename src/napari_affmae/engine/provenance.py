"""Facts about a run in words and in records."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from .. import __version__
from ..data.fingerprint import summary
from ..data.records import ImageRecord, Skipped
from ..settings import Settings

_NAMES = 20
"""Names of images that are written out; the rest is counted."""

_REASONS = 3


def describe_run(
    job: str, names: Sequence[str], settings: Settings, figures: dict[str, Any], data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a JSON-able record: job, data (see :func:`describe_data`), settings, versions, figures."""
    return {
        "job": job,
        "images": len(names),
        "names": list(names[:_NAMES]),
        "data": dict(data or {}),
        "settings": settings.model_dump(mode="json"),
        "versions": {"napari-affmae": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
        "figures": figures,
    }


def describe_data(
    records: Sequence[ImageRecord],
    images: Iterable[str],
    labels: Iterable[str] | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a JSON-able record of what a run learns from.

    Parameters
    ----------
    records
        The images.
    images, labels
        Fingerprints of the images that were read so far, and of the labels, if there are any.
    earlier
        The run's record from before it was resumed: what it had read belongs to it.
    """
    before = (earlier or {}).get("data", {}).get("images", {}).get("hashes", ())
    # Hashes are of the channels that were chosen: whoever compares other images with them has to choose the same.
    chosen = records[0].chosen_channels if records else None
    data = {"channels": None if chosen is None else list(chosen), "images": summary([*before, *images], len(records))}
    if labels is not None:
        labels = list(labels)
        data["labels"] = summary(labels, len(labels))
    return data


def listed(skipped: Sequence[Skipped]) -> str:
    """Say how many images were left out, with the first reasons."""
    reasons = "; ".join(f"{item.name}: {item.reason}" for item in skipped[:_REASONS])
    more = f"; and {len(skipped) - _REASONS} more" if len(skipped) > _REASONS else ""
    return f"{len(skipped)} {'image' if len(skipped) == 1 else 'images'} ({reasons}{more})"
