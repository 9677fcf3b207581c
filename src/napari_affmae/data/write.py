"""Store results as TIFF that Fiji and napari open with its pixel size, and place any result on disk whole.

Everything is written beside its place first and then moved there, so that a full disk never leaves half a file under the
right name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from ..card import PixelSize
from ..errors import StorageError
from .quiet import quiet


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
    return _write_tiff(Path(path), labels.astype(dtype), "YX", pixel_size, overwrite)


def write_probabilities_tiff(
    path: Path | str,
    probabilities: npt.NDArray[np.float32],
    pixel_size: PixelSize | None = None,
    *,
    as_uint8: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write probabilities ``[K, H, W]``, 0 to 1, as an ImageJ TIFF with one channel per class.

    Parameters
    ----------
    as_uint8
        Write 0 to 255 in 8 bits, a quarter of the size, instead of float32.

    Raises
    ------
    StorageError
        As :func:`write_labels_tiff`.
    """
    pixels = np.rint(probabilities * 255).astype(np.uint8) if as_uint8 else probabilities.astype(np.float32)
    return _write_tiff(Path(path), pixels, "CYX", pixel_size, overwrite)


def _write_tiff(path: Path, pixels: npt.NDArray[Any], axes: str, pixel_size: PixelSize | None, overwrite: bool) -> Path:
    imagej = pixels.dtype in (np.uint8, np.uint16, np.float32)
    metadata: dict[str, Any] = {"axes": axes}
    resolution = None
    if pixel_size is not None:
        y, x = (side / 1e3 for side in pixel_size.nanometres())
        resolution = (1 / x, 1 / y)
        if imagej:
            metadata["unit"] = "um"
        else:
            resolution = (1e4 / x, 1e4 / y)

    def write(place: Path) -> None:
        with quiet():
            tifffile.imwrite(
                place,
                pixels,
                imagej=imagej,
                photometric="minisblack",
                compression=None if imagej else "zlib",
                resolution=resolution,
                resolutionunit=None if imagej or resolution is None else "CENTIMETER",
                metadata=metadata,
            )

    return place_whole(path, write, overwrite)


def place_whole(path: Path, write: Callable[[Path], None], overwrite: bool) -> Path:
    """Let ``write`` make a file or folder beside ``path``, then move it there whole.

    Raises
    ------
    StorageError
        If something is there already and ``overwrite`` is False, or if writing fails; nothing half-written stays behind.
    """
    if path.exists() and not overwrite:
        raise StorageError(f"{path} is there already; choose another name or allow it to be overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise StorageError(f"cannot write to {path.parent}: {error.strerror or error}; choose another folder") from error
    try:
        made = beside / path.name
        write(made)
        _move(made, path, beside / "replaced")
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder, nothing was changed"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


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
