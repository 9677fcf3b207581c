"""Lists of files: a text file with one name a line, or a split table such as ``split.csv:train``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ..errors import DataError
from .records import Skipped
from .stem import without_suffix

_NAME_COLUMNS = ("file", "filename", "name", "image", "path")
_SPLIT_COLUMNS = ("split", "set", "subset", "fold")
_TABLE_SUFFIXES = (".csv", ".tsv")


def read_file_list(files: str, folder: Path) -> list[str]:
    """Return the names in a list, in its order and each once.

    Parameters
    ----------
    files
        ``"names.txt"`` (one name a line; empty lines and lines that start with ``#`` do not count), ``"split.csv:train"``
        (the rows of one split) or ``"split.csv"`` (all rows). Relative paths are looked up in the images folder, its parent,
        and the current directory, in this order.
    folder
        The images folder.

    Raises
    ------
    DataError
        If the list is not there, cannot be read, names no files, or has no such split.
    """
    name, split = _parse(files)
    path = _find(name, folder)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in _TABLE_SUFFIXES:
            names = _names_of_split(text, split, path)
        else:
            names = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the file list {path}: {error}; expected a text or CSV file in UTF-8") from error
    if not names:
        raise DataError(f"the file list {path} names no files; write one name a line")
    return list(dict.fromkeys(names))


def _parse(files: str) -> tuple[str, str | None]:
    name, colon, split = files.rpartition(":")
    if colon and name.lower().endswith(_TABLE_SUFFIXES):
        return name, split
    return files, None


def _find(name: str, folder: Path) -> Path:
    places = list(dict.fromkeys(base / name for base in (folder, folder.absolute().parent, Path())))
    for place in places:
        if os.path.isfile(place):
            return place
    raise DataError(f"the file list {name} is not there; looked for {', '.join(str(place) for place in places)}")


def _names_of_split(text: str, split: str | None, path: Path) -> list[str]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    if not rows:
        return []
    header = [cell.lower() for cell in rows[0]]
    name_column = next((header.index(column) for column in _NAME_COLUMNS if column in header), None)
    if name_column is None:
        name_column, split_column = 0, 1
    else:
        split_column = next((header.index(column) for column in _SPLIT_COLUMNS if column in header), len(header))
        rows = rows[1:]
    if split is None:
        return [row[name_column] for row in rows if len(row) > name_column]
    rows = [row for row in rows if len(row) > max(name_column, split_column)]
    names = [row[name_column] for row in rows if row[split_column] == split]
    if not names:
        existing = ", ".join(dict.fromkeys(row[split_column] for row in rows)) or "no splits at all"
        raise DataError(f"{path} has no split {split!r}; it has {existing}")
    return names


def select_listed(names: Sequence[str], available: Iterable[str]) -> tuple[list[str], list[Skipped]]:
    """Match listed names with the files of a folder, both relative with forward slashes.

    A listed name may be the relative path, the bare file name, or either without its suffix, as long as only one file fits.
    """
    by_key: dict[str, list[str]] = {}
    for file in available:
        pure = PurePosixPath(file)
        for key in dict.fromkeys((file, without_suffix(file), pure.name, without_suffix(pure.name))):
            by_key.setdefault(key, []).append(file)
    exact = {file for files in by_key.values() for file in files}
    chosen: list[str] = []
    skipped: list[Skipped] = []
    for name in names:
        key = name.replace("\\", "/").removeprefix("./")
        # Whoever cuts what follows the last dot leaves ``slide.ome`` of an OME-TIFF.
        stem = without_suffix(key) if key.lower().endswith(".ome") else key
        fits = [key] if key in exact else by_key.get(stem, [])
        if len(fits) == 1:
            chosen.append(fits[0])
        elif fits:
            skipped.append(Skipped(name, f"the list means one file, but {len(fits)} fit: {', '.join(fits[:3])}"))
        else:
            skipped.append(Skipped(name, "in the list, but not in the folder"))
    return list(dict.fromkeys(chosen)), skipped
