"""The one image that a command looks at: a file, or one page of a stack."""

from __future__ import annotations

import sys
from pathlib import Path

from ..data.records import ImageRecord
from ..data.scan import scan
from ..data.zarr_file import is_zarr
from ..errors import ConfigError, DataError
from ..words import count


def one_image(path: Path, page: int, channels: list[int] | None) -> ImageRecord:
    """Find a page of an image, whichever of its other pages are usable; say on stderr which of several it is.

    Parameters
    ----------
    path, channels
        As in :func:`~napari_affmae.data.scan.scan`, but for folders of images.
    page
        Counted from 0 as the file does.

    Raises
    ------
    ConfigError
        If there is no such page.
    DataError
        If the path is a folder of images, or the page is not usable; the message says why.
    """
    if path.is_dir() and not is_zarr(path):
        raise DataError(f"{path} is a folder; give one of its images")
    collection = scan(path, channels=channels)
    pages = len(collection.records) + len(collection.skipped)
    if page >= pages:
        raise ConfigError(
            f"--page {page} was asked for, but {path.name} has {count(pages, 'page')} (counted from 0); choose one of them"
        )
    for record in collection.records:
        if (record.page or 0) == page:
            if pages > 1:
                print(f"note: {path.name} has {pages} pages; this is page {page}", file=sys.stderr)
            return record
    [why] = [item.reason for item in collection.skipped if item.name == f"{path.name}[{page}]"]
    raise DataError(f"page {page} of {path.name} cannot be used ({why}); choose another with --page")
