"""Facts about a run in words and in records."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch

from ..config import Settings
from ..data.records import Skipped

_NAMES = 20
"""Names of images that are written out; the rest is counted."""

_REASONS = 3


def describe_run(job: str, names: Sequence[str], settings: Settings, figures: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON-able record: job, data, settings, versions, figures."""
    return {
        "job": job,
        "images": len(names),
        "names": list(names[:_NAMES]),
        "settings": settings.model_dump(mode="json"),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "figures": figures,
    }


def listed(skipped: Sequence[Skipped]) -> str:
    """Say how many images were left out, with the first reasons."""
    reasons = "; ".join(f"{item.name}: {item.reason}" for item in skipped[:_REASONS])
    more = f"; and {len(skipped) - _REASONS} more" if len(skipped) > _REASONS else ""
    return f"{len(skipped)} {'image' if len(skipped) == 1 else 'images'} ({reasons}{more})"
