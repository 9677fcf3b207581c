"""What was made of images in a folder, how, and with what result: one JSON line per image in a log like ``segment.jsonl``.

A line is written before an image is worked on and another one when its files are in place. So a folder can be taken up again
after anything, and nothing is replaced that was not made here. Tables are made from the lines.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, StorageError, cannot_write
from .outputs import Outputs
from .write import remove

LOG, PLACES_LOG = "segment.jsonl", "suggest.jsonl"
"""Of segmentations, and of maps of where to paint next."""

BEGUN, DONE = "begun", "done"

OPTIONS = frozenset((
    "format", "probabilities", "channels", "seed", "tile", "overlap", "views", "specks", "holes", "instances", "split",
    "background",
))  # fmt: skip
"""Settings that a user knows as options of the command line."""


@dataclass(frozen=True)
class Request:
    """An image that is to be worked on.

    Attributes
    ----------
    name
        Its name in the collection.
    source
        Where it comes from, so that an image of the same name from elsewhere is not taken for it.
    outputs
        Where its results go.
    """

    name: str
    source: str
    outputs: Outputs


def made_in(folder: Path) -> dict[str, str]:
    """Return the results that were written into a folder, by their name in it, and the image that each was made of.

    A log that cannot be read says nothing.
    """
    made: dict[str, str] = {}
    for name in (LOG, PLACES_LOG):
        with suppress(StorageError, KeyError, TypeError):
            made |= {output: line["source"] for line in OutputLog(folder, name).lines() for output in line["outputs"]}
    return made


class OutputLog:
    """The log of a folder, which need not exist yet.

    Parameters
    ----------
    folder
        The folder.
    name
        Name of the file; each job that writes into folders has its own.
    """

    def __init__(self, folder: Path, name: str = LOG) -> None:
        self.folder = folder
        self.path = folder / name
        self._lines: dict[str, dict[str, Any]] = {}
        self._named: Counter[str] = Counter()
        self._told: set[str] = set()
        self._existed = self.path.is_file()
        if self._existed:
            self._read()

    def _read(self) -> None:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{self.path} cannot be read ({error}); choose another folder") from error
        for line in lines:
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # A line that was cut when the process died.

    def _take(self, record: dict[str, Any]) -> None:
        name, outputs = record["name"], record["outputs"]
        self._named.subtract(self._lines.get(name, {}).get("outputs", ()))
        self._named.update(outputs)
        self._lines[name] = record
        self._told.update(record)

    @property
    def existed(self) -> bool:
        """Whether there was a log before."""
        return self._existed

    def lines(self) -> list[dict[str, Any]]:
        """Return the line of each image."""
        return list(self._lines.values())

    def ever_told(self, of: str) -> bool:
        """Whether a line says, or said before it was replaced, something ``of`` its image."""
        return of in self._told

    def finished(self) -> list[dict[str, Any]]:
        """Return the lines of all images whose results are there, in order of name."""
        return [line for _, line in sorted(self._lines.items()) if line["state"] == DONE]

    def made_with(self, settings: Mapping[str, Any]) -> bool:
        """Whether something was made here, and all of it with these settings."""
        lines = self._lines.values()
        return bool(lines) and all(line.get(name) == value for line in lines for name, value in settings.items())

    def outdated(self, request: Request) -> list[Path]:
        """Return what was made of an image before and is not replaced now, because it goes by other names.

        What lies outside the folder, or is named by another image as well, is not among it.
        """
        now = self._relative(request.outputs.paths())
        before = [name for name in self._lines.get(request.name, {}).get("outputs", ()) if name not in now]
        inside = [name for name in before if not Path(name).is_absolute() and ".." not in Path(name).parts]
        return [self.folder / name for name in inside if self._named[name] == 1]

    def begin(self, request: Request, settings: Mapping[str, Any]) -> None:
        """Note that an image is worked on. What is outdated is named still, until it is removed."""
        outputs = [path.relative_to(self.folder).as_posix() for path in (*request.outputs.paths(), *self.outdated(request))]
        self._append({"name": request.name, "source": request.source, "outputs": outputs, "state": BEGUN, **settings})

    def finish(self, request: Request, result: Mapping[str, Any]) -> None:
        """Note that the results of an image are in place, and remove what is outdated.

        Raises
        ------
        StorageError
            If it cannot be removed, or nothing be noted.
        """
        for path in self.outdated(request):
            remove(path)
        outputs = [path.relative_to(self.folder).as_posix() for path in request.outputs.paths()]
        self._append({**self._lines[request.name], "outputs": outputs, "state": DONE, **result})

    def forget_if_empty(self) -> None:
        """Remove a log that was begun for nothing."""
        if not self._existed and not self.finished() and self.path.is_file():
            self.path.unlink()

    def to_do(
        self, requests: Sequence[Request], settings: Mapping[str, Any], *, resume: bool, overwrite: bool
    ) -> list[tuple[Request, bool]]:
        """Return the images that are left to do, each with whether its outputs may be replaced.

        Raises
        ------
        StorageError
            If an output is there that must not be replaced, or one of another name that was made of the image before.
        ConfigError
            If an image was worked on before with other settings.
        """
        if overwrite:
            return [(request, True) for request in requests]
        left, there = [], []
        for request in requests:
            line = self._lines.get(request.name) if resume else None
            outputs = request.outputs.paths()
            existing = [path for path in (*outputs, *self.outdated(request)) if path.exists()]
            if line is None:
                there += existing
            elif line["state"] == DONE and existing:
                self._check_same(line, request, settings)
                if set(outputs) <= set(existing):
                    continue
            left.append((request, line is not None))
        if there:
            raise StorageError(self._in_the_way(there))
        return left

    def _check_same(self, line: Mapping[str, Any], request: Request, settings: Mapping[str, Any]) -> None:
        now = {"source": request.source, **settings}
        for name, value in now.items():
            if line.get(name) != value:
                raise ConfigError(
                    f"{request.outputs.labels} was made with {difference(name, line.get(name), value)}: go on with the same "
                    "settings, choose another folder, or pass --overwrite to replace it"
                )

    def _in_the_way(self, there: Sequence[Path]) -> str:
        what = f"{there[0]} is" if len(there) == 1 else f"{there[0]} and {len(there) - 1} more are"
        ours = {output for line in self._lines.values() for output in line["outputs"]}
        go_on = ", --resume to go on with what was made before" if ours & self._relative(there) else ""
        return f"{what} there already; choose another folder{go_on}, or pass --overwrite to replace it"

    def _relative(self, paths: Sequence[Path]) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in paths}

    def _append(self, record: dict[str, Any]) -> None:
        self._take(record)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                # After a line that was cut, a new one begins.
                file.write(("\n" if self._cut() else "") + json.dumps(record) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _cut(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(0, 2)
            if not file.tell():
                return False
            file.seek(-1, 2)
            return file.read(1) != b"\n"


def difference(name: str, before: Any, now: Any) -> str:
    """Name the first place where two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return difference(f"{name}.{key}", before.get(key), now[key])
    option = name.rpartition(".")[2]
    if option not in OPTIONS:
        return f"{name} = {before!r}, and now it is {now!r}"
    given, words = f"--{option}", _given(now)
    if not before and before != 0:
        return f"no {given}, and now it is {words}"
    return f"{given if before is True else f'{given} {_given(before)}'}, and now it is {words}"


def _given(value: Any) -> str:
    """Return what was given to an option, in words."""
    if value is None or value is False:
        return "not given"
    if value is True:
        return "given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
