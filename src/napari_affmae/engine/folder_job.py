"""One image after the other into files, as parts of one job: what is done, how long it took, and what the log says of each."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo
from ..config import ApplyConfig
from ..control import JobControl, Stopped
from ..data.classes import class_table_of
from ..data.output_log import Request
from ..data.outputs import RowWriter, writing
from ..data.records import ImageRecord
from ..events import Done, Event, Notice, Progress, Started
from ..model.segmenter import Segmenter
from .memory import require_memory
from .refine import Refined, certainty_of, refine
from .segment import count_tiles, labels_of, segment_events
from .tiling import FloatArray, RowFunction, WholeImage

_REFINEMENT_BYTES = 60
"""Per pixel, beside the probabilities: numbered regions, distances and their sums, most of them in 64 bits."""


class FolderJob:
    """The images that are left, and how far they are."""

    def __init__(
        self,
        network: Segmenter,
        config: ApplyConfig,
        control: JobControl,
        threads: int | None,
        records: Sequence[ImageRecord],
        also: RowFunction | None = None,
    ) -> None:
        self._network = network
        self._classes = class_table_of(network)
        self._config = config
        self._control = control
        self._threads = threads
        self._also = also
        self._started = False
        self._tiles = {record.name: self._count(record) for record in records}
        self._total = sum(self._tiles.values())
        self.tiles_done = 0
        self.elapsed = 0.0

    def _count(self, record: ImageRecord) -> int:
        size = record.pixel_size if self._config.rescale else None
        tile, overlap = self._config.tile, self._config.overlap
        return count_tiles(self._network, record.height, record.width, tile=tile, overlap=overlap, pixel_size=size)

    def segment(
        self, record: ImageRecord, request: Request, replaceable: bool
    ) -> Generator[Event, None, dict[str, Any] | None]:
        """Segment one image into its files; the value is what the log says of it, or None if it was stopped."""
        before = time.perf_counter()
        tiles_before, elapsed_before = self.tiles_done, self.elapsed
        config = self._config
        image = record.open()
        size = record.pixel_size
        opened = writing(
            request.outputs, image, self._classes,
            probabilities=config.probabilities, pixel_size=size, overwrite=replaceable,
        )  # fmt: skip
        refining = config.refinement.active
        if refining:
            self._require_memory(record)
        counted, refined = _Counted(self._classes, self._also), None
        with suppress(Stopped), opened as writer:
            whole = WholeImage(record.height)
            counted.writer = writer
            elapsed_before += time.perf_counter() - before
            events = segment_events(
                self._network, image, tile=config.tile, overlap=config.overlap, batch=config.batch, device=config.device,
                pixel_size=size if config.rescale else None, control=self._control, threads=self._threads,
                views=config.views, into=whole if refining else counted,
            )  # fmt: skip
            for event in events:
                if isinstance(event, Progress):
                    self.tiles_done = tiles_before + event.step
                    self.elapsed = elapsed_before + event.elapsed_seconds
                    yield self._progress(event)
                elif isinstance(event, Started):
                    if not self._started:
                        yield replace(event, total_steps=self._total)
                    self._started = True
                elif isinstance(event, Notice):
                    yield Notice("segment", f"{record.name}: {event.message}")
                elif isinstance(event, Done) and event.stopped:
                    raise Stopped
            before = time.perf_counter()
            if refining and whole.values is not None:
                labels = labels_of(whole.values, self._classes)
                refined = refine(labels, self._classes, config.refinement, certainty_of(whole.values))
                counted.take(0, refined.labels, whole.values)
                if refined.instances is not None:
                    writer.write_instances(refined.instances)
        if counted.rows < record.height:
            return None
        self.tiles_done = tiles_before + self._tiles[record.name]
        self.elapsed += time.perf_counter() - before
        return _line(record, self._classes, counted, refined)

    def _progress(self, event: Progress) -> Progress:
        left = self._total - self.tiles_done
        return replace(
            event, step=self.tiles_done, total_steps=self._total, fraction=self.tiles_done / self._total,
            elapsed_seconds=self.elapsed, eta_seconds=left * self.elapsed / max(self.tiles_done, 1),
        )  # fmt: skip

    def _require_memory(self, record: ImageRecord) -> None:
        pixels = record.height * record.width
        require_memory(
            pixels * (4 * len(self._classes) + _REFINEMENT_BYTES),
            f"refining {record.height} × {record.width} pixels",
            "segment so large an image without refinement, or cut it into parts",
        )


class _Counted:
    """Passes rows on to a writer, and to whoever else wants their probabilities, and counts the pixels of each class."""

    def __init__(self, classes: Sequence[ClassInfo], also: RowFunction | None) -> None:
        self._classes = classes
        self._also = also
        self.writer: RowWriter | None = None
        self.rows = 0
        self.pixels = dict.fromkeys((info.id for info in classes), 0)

    def __call__(self, top: int, probabilities: FloatArray) -> None:
        self.take(top, labels_of(probabilities, self._classes), probabilities)

    def take(self, top: int, labels: npt.NDArray[Any], probabilities: FloatArray) -> None:
        """Pass on ids ``[rows, W]`` and their probabilities ``[K, rows, W]``."""
        if self.writer is not None:
            self.writer.write(top, labels, probabilities)
        if self._also is not None:
            self._also(top, probabilities)
        self.rows += len(labels)
        for class_id in self.pixels:
            self.pixels[class_id] += int(np.count_nonzero(labels == class_id))


def _line(record: ImageRecord, classes: Sequence[ClassInfo], counted: _Counted, refined: Refined | None) -> dict[str, Any]:
    size = record.pixel_size
    line: dict[str, Any] = {
        "shape": [record.height, record.width],
        "pixel_size": None if size is None else size.model_dump(mode="json"),
        "areas": [{"id": info.id, "name": info.name, "pixels": counted.pixels[info.id]} for info in classes],
    }
    if refined is not None and refined.instances is not None:
        line["instances"] = [
            [one.number, one.class_id, one.pixels, round(one.row, 2), round(one.column, 2)] for one in refined.table
        ]
    return line
