"""Tables of a segmented folder as CSV: the area of each class in each image, and every instance."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import StorageError
from .output_log import OutputLog
from .write import place_whole, remove

AREAS, INSTANCES = "areas.csv", "instances.csv"

_AREA_COLUMNS = ("image", "class_id", "class", "pixels", "fraction", "area", "area_unit", "objects")
_INSTANCE_COLUMNS = ("image", "instance", "class_id", "class", "pixels", "area", "area_unit", "row", "column")

Row = tuple[Any, ...]


def write_tables(log: OutputLog) -> list[Path]:
    """Write ``areas.csv``, and ``instances.csv`` if instances were asked for, from the finished lines of an output log.

    If they were asked for before and are no more, ``instances.csv`` is removed. Areas are physical, in square units of the
    image's pixel size, where that is known, and empty elsewhere.

    Raises
    ------
    StorageError
        If they cannot be written, or removed.
    """
    folder, lines = log.folder, log.finished()
    written = [_write(folder / AREAS, _AREA_COLUMNS, _area_rows(lines))]
    if any("instances" in line for line in lines):
        written.append(_write(folder / INSTANCES, _INSTANCE_COLUMNS, _instance_rows(lines)))
    elif log.ever_told("instances"):
        remove(folder / INSTANCES)
    return written


def refuse_foreign_tables(folder: Path) -> None:
    """Raise :class:`StorageError` if a folder without an output log holds files of the tables' names."""
    for name in (AREAS, INSTANCES):
        if (folder / name).exists():
            raise StorageError(f"{folder / name} is there already; choose another folder, or pass --overwrite to replace it")


def _area_rows(lines: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    for line in lines:
        total = sum(info["pixels"] for info in line["areas"])
        objects = [instance["class_id"] for instance in _instances(line)]
        for info in line["areas"]:
            counted = objects.count(info["id"]) if "instances" in line else ""
            yield (
                line["name"], info["id"], info["name"], info["pixels"], f"{info['pixels'] / max(total, 1):.6f}",
                *_physical(info["pixels"], line["pixel_size"]), counted,
            )  # fmt: skip


def _instance_rows(lines: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    for line in lines:
        names = {info["id"]: info["name"] for info in line["areas"]}
        for one in _instances(line):
            yield (
                line["name"], one["number"], one["class_id"], names[one["class_id"]], one["pixels"],
                *_physical(one["pixels"], line["pixel_size"]), one["row"], one["column"],
            )  # fmt: skip


def _instances(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = ("number", "class_id", "pixels", "row", "column")
    return [dict(zip(columns, values, strict=True)) for values in line.get("instances", ())]


def _physical(pixels: int, size: Mapping[str, Any] | None) -> tuple[str, str]:
    if size is None:
        return "", ""
    return f"{pixels * size['y'] * size['x']:.6g}", f"{size['unit']}^2"


def _write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> Path:
    def write(place: Path) -> None:
        with place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)

    return place_whole(path, write, overwrite=True)
