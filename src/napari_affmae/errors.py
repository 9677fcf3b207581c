"""Errors that a user can act on.

Every error raised on purpose by this package derives from :class:`AffmaeError`, which is a ``ValueError``. Its message says
what was expected, what came instead, and what to do next. The command line prints the message and exits with 1; the dock
shows it as a napari notification.
"""

from __future__ import annotations


class AffmaeError(ValueError):
    """Base of all errors that this package raises on purpose."""


class ConfigError(AffmaeError):
    """A setting is outside its range, or two settings contradict each other."""


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
