"""Store results as TIFF that Fiji and napari open with its pixel size, and place any result on disk whole.

Everything is written beside its place first and then moved there, so that a full disk never leaves half a file under the
right name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import PixelSize
from ..errors import StorageError, cannot_write
from .tiff_rows import TiffRows


def write_labels_tiff(
    path: Path | str, labels: npt.NDArray[Any], pixel_size: PixelSize | None = None, *, overwrite: bool = False
) -> Path:
    """Write ids ``[H, W]`` as an ImageJ TIFF, in 8 bits if they fit, else 16; larger ids go to a 32-bit plain TIFF.

    Raises
    ------
    StorageError
        If something is there already and ``overwrite`` is False, or if it cannot be written.
    """
    most = int(labels.max()) if labels.size else 0
    dtype = np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.uint32
    return _write_tiff(Path(path), labels.astype(dtype), pixel_size, overwrite)


def _write_tiff(path: Path, pixels: npt.NDArray[Any], pixel_size: PixelSize | None, overwrite: bool) -> Path:
    def write(place: Path) -> None:
        with TiffRows(place, pixels.shape, pixels.dtype, pixel_size) as rows:
            rows.write(0, pixels)

    return place_whole(path, write, overwrite)


def place_whole(path: Path, write: Callable[[Path], None], overwrite: bool) -> Path:
    """Let ``write`` make a file or folder beside ``path``, then move it there whole; see :func:`placing`."""
    with placing(path, overwrite) as place:
        write(place)
    return path


@contextmanager
def placing(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a place beside ``path`` to make a file or folder in; at the end it moves there whole.

    Raises
    ------
    StorageError
        If something is there already and ``overwrite`` is False, or if writing fails. Whatever is raised inside, nothing
        half-written stays behind.
    """
    if path.exists() and not overwrite:
        raise StorageError(f"{path} is there already; choose another name or allow it to be overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        made = beside / path.name
        yield made
        _move(made, path, beside / "replaced")
    except OSError as error:
        raise cannot_write(path, error, ", nothing was changed") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def remove_remains(paths: Iterable[Path]) -> None:
    """Remove what processes that were killed left beside any of ``paths``."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    # By folder: to look for each path alone takes minutes where a folder holds thousands of them.
    for folder, there in names.items():
        for beside in list(folder.glob(".*")):
            if beside.name[1:].rpartition(".")[0] in there and beside.is_dir():
                shutil.rmtree(beside, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there; raise :class:`StorageError` if it cannot be removed."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}, which is outdated: {error.strerror or error}; remove it by hand") from error


def _move(made: Path, path: Path, aside: Path) -> None:
    """Put ``made`` in the place of ``path``; a folder there goes aside first, and back if that fails."""
    if not path.is_dir():
        os.replace(made, path)
        return
    path.rename(aside)
    try:
        made.rename(path)
    except OSError:
        aside.rename(path)
        raise
