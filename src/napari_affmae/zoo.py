"""Whether the library of the BioImage Model Zoo is installed. Imports neither it nor torch, so that a window can ask."""

from __future__ import annotations

import importlib.util

INSTALL = 'pip install "napari-affmae[bioimageio]", or in the folder of a clone pip install ".[bioimageio]"'
"""What to say to whom the library is missing."""


def why_not_export() -> str | None:
    """Return what to install first, or None if packages can be made here."""
    if importlib.util.find_spec("bioimageio") is not None and all(
        importlib.util.find_spec(f"bioimageio.{part}") is not None for part in ("spec", "core")
    ):
        return None
    return f"A package of the BioImage Model Zoo is made with the Zoo's own library: {INSTALL}"
