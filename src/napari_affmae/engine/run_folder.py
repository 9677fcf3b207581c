"""The folder of a training run: what it holds, and how files get into it whole or not at all.

``config.json``             the settings, to repeat the run
``data.json``               fingerprints of the images and labels, so that nothing else is taken when it is resumed
``model.safetensors``       the latest weights with their card, loadable at any time
``checkpoint.safetensors``  what it takes to go on: weights, optimizer state, step
``log.jsonl``               one JSON line per logged step
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.output_log import difference
from ..errors import ConfigError, OtherDataError, StorageError, cannot_write
from ..events import Job
from ..model_header import DATA_FILE
from ..model_places import MODEL_FILE
from ..settings import Settings
from ..whole_file import replace_file


class RunFolder:
    """Paths and writers of one run; see the module for its files."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.model = self.path / MODEL_FILE
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.log = self.path / "log.jsonl"
        self.data = self.path / DATA_FILE

    def begin(self, job: Job, settings: Settings, extra: Mapping[str, Any]) -> None:
        """Make the folder for a new run and write its settings.

        What a run left that ended before its first checkpoint is replaced: there is nothing in it to resume.

        Raises
        ------
        StorageError
            If something else is in the folder already, or it cannot be written.
        """
        with storage_errors(self.path):
            there = list(self.path.iterdir()) if self.path.is_dir() else []
            remains = {self.config, self.data, self.log}
            if any(item not in remains and not _is_partial(item) for item in there):
                if self.config in there and self.model in there and self.checkpoint not in there:
                    raise StorageError(f"{self.path} holds a network without a checkpoint to go on from: choose another folder")
                if self.config in there:
                    raise StorageError(f"{self.path} holds a run: go on with it with --resume, or choose another folder")
                raise StorageError(f"{self.path} is not empty and holds no run: choose a new or an empty folder")
            self.path.mkdir(parents=True, exist_ok=True)
            for item in there:
                item.unlink()
        self.write_settings(job, settings, extra)

    def write_settings(self, job: Job, settings: Settings, extra: Mapping[str, Any]) -> None:
        """Write ``config.json``."""
        record = {"job": job, "settings": settings.model_dump(mode="json"), **extra}
        write_whole(self.config, json.dumps(record, indent=2).encode())

    def check_resumable(self, job: Job, fixed: Mapping[str, Any]) -> None:
        """Check that a run can go on with these settings.

        Parameters
        ----------
        fixed
            Settings (by name, as JSON values), or facts beside them in ``config.json``, that must be those of the run.

        Raises
        ------
        StorageError
            If there is no run in the folder.
        ConfigError
            If there is a run of another kind, or with other fixed settings.
        OtherDataError
            If it has classes of other ids; names and colours may have changed.
        """
        if not self.config.is_file():
            raise StorageError(f"no run to resume in {self.path}: expected a file config.json; start it without --resume")
        try:
            record = json.loads(self.config.read_bytes())
            before = {**record, **record["settings"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{self.config} cannot be read ({error}); start a new run in another folder") from error
        if before.get("job") != job:
            raise ConfigError(f"{self.path} holds a {before.get('job')} run, not {job}: choose the folder of the run to resume")
        for name, now in fixed.items():
            if before.get(name) == now:
                continue
            if name == "classes":
                if _ids(before.get(name)) == _ids(now):
                    continue
                raise OtherDataError(
                    f"the run in {self.path} was started with the classes {_listed(before.get(name))}, and now they are "
                    f"{_listed(now)}: resume it with the same labels, --sparse and --foreground as before, or start a new run "
                    "in another folder"
                )
            raise ConfigError(
                f"the run in {self.path} was started with {difference(name, before.get(name), now)}: "
                "resume it with the same settings, or start a new run in another folder"
            )

    def fact(self, name: str) -> Any:
        """Return what the run was begun with, of what stands beside the settings; None if it does not say."""
        return json.loads(self.config.read_bytes()).get(name)

    def require_space(self, parameters: int) -> None:
        """Raise :class:`StorageError` if the disk has no room for the files of a network with so many parameters."""
        # Weights, and in the checkpoint weights and two moments; and all of it twice while files are replaced.
        needed = 2 * (1 + 3) * 4 * parameters + 1_000_000
        with storage_errors(self.path):
            free = shutil.disk_usage(self.path).free
            # A run that goes on has them once already.
            needed -= sum(path.stat().st_size for path in (self.model, self.checkpoint) if path.is_file())
        if free < needed:
            raise StorageError(
                f"the disk of {self.path} has {free / 1e6:.0f} MB free, but this run needs about {needed / 1e6:.0f} MB more "
                "for its model and checkpoint: free some space or choose another folder"
            )

    def append_log(self, record: Mapping[str, Any]) -> None:
        """Add a line to ``log.jsonl``."""
        with storage_errors(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def truncate_log(self, step: int) -> None:
        """Drop what was logged after a step: a resumed run makes those steps again."""
        if not self.log.is_file():
            return
        kept = []
        with storage_errors(self.log):
            lines = self.log.read_text(encoding="utf-8").splitlines()
        for line in lines:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue  # A line that was cut when the process died.
        write_whole(self.log, "".join(line + "\n" for line in kept).encode())


def _is_partial(path: Path) -> bool:
    """Whether a file was being written when the process died."""
    return path.name.startswith(".") and path.suffix == ".partial"


def _ids(classes: Any) -> list[Any]:
    return [info["id"] for info in classes or ()]


def _listed(classes: Any) -> str:
    """Return the classes of a run, as JSON values, in words."""
    return ", ".join(f"{info['id']} ({info['name']})" for info in classes or ()) or "none"


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file of a run whole; raise :class:`StorageError` if it cannot be written."""
    with storage_errors(path):
        replace_file(path, data)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a path into a :class:`StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
