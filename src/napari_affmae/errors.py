"""Errors that a user can act on.

Every error raised on purpose by this package derives from :class:`AffmaeError`, which is a ``ValueError``. Its message says
what was expected, what came instead, and what to do next. The command line prints the message and exits with 1; the dock
shows it as a napari notification.
"""

from __future__ import annotations

import errno
from pathlib import Path


class AffmaeError(ValueError):
    """Base of all errors that this package raises on purpose."""


class ConfigError(AffmaeError):
    """A setting is outside its range, or two settings contradict each other."""


class OtherDataError(ConfigError):
    """A run that is to be taken up began with other images or labels."""


class DataError(AffmaeError):
    """Images cannot be used: unreadable, empty, of mixed channel count, constant, or none at all."""


class LabelError(AffmaeError):
    """Labels cannot be used: another shape than the image, no paint, one class only, or ids outside the class table."""


class ModelFileError(AffmaeError):
    """A model file is missing, truncated, not ours, or does not fit its configuration."""


class DeviceError(AffmaeError):
    """The requested device is not there, its memory is exhausted, or the kernels chosen for it cannot run."""


class StorageError(AffmaeError):
    """Results cannot be written: the disk is full, the folder is read-only, or something is already there."""


def expected(error: BaseException) -> str | None:
    """Return what to tell a user of an error that any job can meet: ours, the system's, or memory; None of all others."""
    if isinstance(error, MemoryError):
        reason = f" ({error})" if str(error) else ""
        return f"there is not enough memory for this{reason}; close other programs, or take a smaller image"
    return str(error) if isinstance(error, AffmaeError | OSError) else None


def is_full(error: BaseException) -> bool:
    """Whether the system says that there is no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def cannot_save(what: str, place: Path, error: Exception) -> StorageError:
    """Return what to raise where part of a project could not be saved, whoever noticed it first."""
    cause = error.__cause__ if isinstance(error, StorageError) and error.__cause__ is not None else error
    remedy = "free some space, or choose" if is_full(cause) else "choose"
    reason = getattr(cause, "strerror", None) or cause
    return StorageError(f"{what} could not be saved to {place}: {reason}; {remedy} another project folder in step 2")


def cannot_write(path: Path, error: OSError, note: str = "") -> StorageError:
    """Return what to raise where something could not be written: the system's reason, and what helps against it.

    Parameters
    ----------
    path
        What was to be written.
    error
        What the system said.
    note
        What else the user should know, at the end.
    """
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        where = Path(error.filename) if isinstance(error.filename, str) else path
        file = next((part for part in (where, *where.parents) if part.is_file()), path)
        return StorageError(f"cannot write {path}: {file} is a file, not a folder; choose another folder{note}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "choose a folder where you may write"
    elif is_full(error):
        remedy = "free some space or choose another folder"
    else:
        remedy = "choose another folder"
    return StorageError(f"cannot write {path}: {error.strerror or error}; {remedy}{note}")
