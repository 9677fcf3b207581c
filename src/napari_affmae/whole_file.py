"""Replace a file so that the old or the new one is there, whole, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write a file beside the old one, down to the disk, and put it in its place; its folder is made where it is missing.

    Raises
    ------
    OSError
        If it cannot be written; the old one is still there then, and nothing else.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
