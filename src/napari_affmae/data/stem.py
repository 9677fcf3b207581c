"""What an image is called without its suffix, which may be of two parts: results, labels and lists of files go by it."""

from __future__ import annotations

import re

_SUFFIX = re.compile(r"(?<=[^/])(\.ome)?\.[^./]+\Z", re.IGNORECASE)


def without_suffix(name: str) -> str:
    """Return ``slide`` of ``slide.tif``, ``slide.zarr``, ``slide.ome.tif`` and ``slide.ome.zarr``; folders stay before it."""
    return _SUFFIX.sub("", name)
