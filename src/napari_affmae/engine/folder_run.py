"""Work on many images, one after the other, into a folder that can be taken up again: what is left, done, failed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..data.output_log import OutputLog, Request
from ..data.outputs import Outputs
from ..data.records import ImageCollection, ImageRecord, Skipped
from ..data.write import remove_remains
from ..errors import DataError, StorageError
from ..events import Event, ImageBegun, ImageWritten, Job, Notice
from ..model_places import locate_model

Work: TypeAlias = Callable[[ImageRecord, Request, bool], Generator[Event, None, dict[str, Any] | None]]
"""Works on one image, whose outputs it may replace or not; its value is what the log says of it, or None if it was stopped."""


class FolderRun:
    """One run over images.

    Parameters
    ----------
    job
        What its events call it.
    log
        The log of the folder.
    images
        The images.
    outputs
        Where the results of each go.
    settings
        What decides the results, see :func:`settings_of`.
    resume
        Leave out images whose outputs are there from an earlier run with the same settings, and make those anew that it had
        begun.
    overwrite
        Replace outputs that are there already, whoever made them.

    Attributes
    ----------
    requests
        All images, in order.
    left
        Those that are to be worked on.
    written, failed
        What became of them so far.

    Raises
    ------
    StorageError
        If outputs are there already and neither to be gone on with nor to be overwritten, or are images that are worked on.
    ConfigError
        If what is there was made with other settings.
    """

    def __init__(
        self,
        job: Job,
        log: OutputLog,
        images: ImageCollection,
        outputs: Sequence[Outputs],
        settings: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        self._job = job
        self._log = log
        self._settings = settings
        self._replaces = resume or overwrite
        self.requests = requests_for(images, outputs)
        _refuse_images(self.requests, log)
        self._records = dict(zip(self.requests, images.records, strict=True))
        self._left = log.to_do(self.requests, settings, resume=resume, overwrite=overwrite)
        self.left = [self._records[request] for request, _ in self._left]
        self.written: list[Request] = []
        self.failed: list[Skipped] = []

    @property
    def stopped(self) -> bool:
        """Whether something is left that was not even tried."""
        return len(self.written) + len(self.failed) < len(self._left)

    @property
    def kept(self) -> list[Request]:
        """What is there from before."""
        todo = {request for request, _ in self._left}
        return [request for request in self.requests if request not in todo]

    @property
    def finished(self) -> list[tuple[ImageRecord, Request]]:
        """Every image whose results are in place, in order."""
        done = {*self.kept, *self.written}
        return [(self._records[request], request) for request in self.requests if request in done]

    def each(self, work: Work) -> Iterator[Event]:
        """Work on what is left; an image that cannot be read is left out, with a ``Notice``."""
        if self._replaces:
            remove_remains(path for request, _ in self._left for path in request.outputs.paths())
        for place, (request, replaceable) in enumerate(self._left, start=1):
            yield ImageBegun(self._job, request.name, place, len(self._left))
            self._log.begin(request, self._settings)
            try:
                line = yield from work(self._records[request], request, replaceable)
            except DataError as error:
                self.failed.append(Skipped(request.name, str(error)))
                yield Notice(self._job, f"skipped {_named(request.name, error)}")
                continue
            if line is None:
                return
            self._log.finish(request, line)
            self.written.append(request)
            pixels = {info["id"]: info["pixels"] for info in line.get("areas", ())}
            objects = len(line["instances"]) if "instances" in line else None
            yield ImageWritten(self._job, request.name, tuple(request.outputs.paths()), pixels, objects)

    def require_any(self, done: str) -> None:
        """Raise :class:`DataError` if every image that was left failed; ``done`` says what could not be done to them."""
        if self._left and len(self.failed) == len(self._left):
            first = self.failed[0]
            raise DataError(f"none of the images could be {done}, the first because {_named(first.name, first.reason)}")


def requests_for(images: ImageCollection, outputs: Sequence[Outputs]) -> list[Request]:
    """Return what the log calls the images and where they come from."""
    return [
        Request(record.name, "an open layer" if record.path is None else str(record.path.resolve()), where)
        for record, where in zip(images.records, outputs, strict=True)
    ]


def _refuse_images(requests: Sequence[Request], log: OutputLog) -> None:
    """Refuse outputs that would replace an image, whatever may be overwritten: nobody wants to lose what was measured."""
    replaced = [path for request in requests for path in (*request.outputs.paths(), *log.outdated(request))]
    there = [path for path in replaced if path.exists()]
    # By file and not by name: links and case hide what is the same.
    images = {_file(Path(request.source)) for request in requests if Path(request.source).exists()} if there else set()
    for path in there:
        if _file(path) in images:
            raise StorageError(f"{path} is one of the images: choose another folder for what is made of them")


def _file(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def settings_of(model: Path | str, images: ImageCollection, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that decides a result, for the log: the model's content, the channels that are taken, and the settings."""
    with locate_model(model).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    channels = images.records[0].chosen_channels
    return {
        "model_sha256": digest,
        "channels": None if channels is None else list(channels),
        "settings": dict(settings),
    }


def _named(name: str, reason: object) -> str:
    """Say which image a reason is about, unless it says so itself."""
    return str(reason) if str(reason).startswith(name) else f"{name}: {reason}"
