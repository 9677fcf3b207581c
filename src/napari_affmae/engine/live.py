"""Live training: a session that answers every stroke with a short round, and every quiet minute with a finer one.

A round trains decoder and heads on the paint, the newest strokes first, on encoder features that are computed once per tile.
Then it predicts: what is visible, then the rest of the image. It ends at once when a newer request makes it stale. While nobody
paints, :meth:`LiveSession.refine` lets the encoder learn as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..card import ClassInfo
from ..config import LiveConfig
from ..control import LiveControl
from ..data.augment import augment
from ..data.fingerprint import fingerprint, label_fingerprint
from ..data.label_images import LabelledImage
from ..data.labelled_tiles import LabelledSampler
from ..data.records import ImageCollection, ImageRecord
from ..errors import DataError, LabelError
from ..events import Event, LivePrediction, LiveRound, LiveStep
from ..model.model_file import load_model, save_model
from ..model.segmenter import Segmenter
from .class_heads import with_classes
from .device import device_errors, limited_threads, resolve_device, seeded
from .finetune import SCRATCH, Model, start_segmenter, started_card, statistics_of
from .image_source import ArraySource
from .live_paint import Paint, Window
from .live_steps import LiveSteps
from .live_tiles import Canvas, Region, TiledImage, finished_bands
from .provenance import describe_data, describe_run
from .schedule import LEAST
from .segment import check_channels

_WINDOW_CPU, _WINDOW = 64, 256
_BATCH_CPU, _BATCH = 4, 8
_SECONDS_CPU, _SECONDS = 1.0, 0.25
_FINE_PIXELS_CPU, _FINE_PIXELS = 256**2, 8 * 512**2
"""What a quick round and a finer step take on: a second or two on two cores with ``tiny``, a moment on a graphics card."""

_LONGER = 3
"""A round that has not halved the loss may take this many times the seconds it was given."""

_LOOK_EVERY = 4
_LOOK_WINDOWS = 3
_FINE_WARM_UP = 0.2
_SECONDS_BETWEEN_PARTS = 0.5
"""The rest of an image is handed out in bands, at most this often."""

_MOST_HASHED = 1 << 26
"""Pixels up to which an image with paint is read whole to hash it for the model's history."""

ADVICE = "lower the tile size, choose a smaller preset"


@dataclass(frozen=True, eq=False)
class LiveRequest:
    """What a round is asked to do.

    Attributes
    ----------
    generation
        Its number; a request with a higher one makes it stale.
    examples
        Every image with paint, with all of its paint. An array that was handed in before must not have been changed since.
    image
        The image to predict, or None to train only.
    visible
        The part of it that is predicted first; None for all of it.
    asked
        When the user was done, as ``time.perf_counter`` counts, for the seconds that a round reports.
    """

    generation: int
    examples: Sequence[LabelledImage]
    image: ImageRecord | None = None
    visible: Region | None = None
    asked: float = field(default_factory=time.perf_counter)


class LiveSession:
    """A segmenter in training, with all that stays warm between two rounds.

    Parameters
    ----------
    model
        What to start from: as in :func:`~napari_affmae.engine.finetune.finetune`. A segmenter keeps what it knows about the
        classes that are in both tables.
    classes
        The class table.
    images
        Images to take statistics from if the model has none; at least one.
    config
        Settings.
    threads
        CPU threads to use while it works, or None for torch's choice.

    Raises
    ------
    ConfigError, DataError, DeviceError, ModelFileError
        As :func:`~napari_affmae.engine.finetune.finetune`.
    """

    def __init__(
        self,
        model: Model | Path | str,
        classes: Sequence[ClassInfo],
        images: ImageCollection,
        config: LiveConfig | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.config = config or LiveConfig()
        self.device = resolve_device(self.config.device)
        self._threads = threads
        on_cpu = self.device.type == "cpu"
        with device_errors(self.device, ADVICE), limited_threads(threads):
            source = (
                load_model(model) if isinstance(model, Path) or (isinstance(model, str) and SCRATCH not in model) else model
            )
            if not isinstance(source, Segmenter):
                source = start_segmenter(source, tuple(classes), images.channels, self.config.seed)
            network = with_classes(source, classes, self.config.seed)
            check_channels(network, images.channels)
            network.card = started_card(network, tuple(classes), images, self.config.tile, self.config.seed, self.device)
            self.model = network.to(self.device)
        patch = network.config.patch_size
        self.tile = -(-(self.config.tile or network.card.tile or 0) // patch) * patch
        self.window = min(-(-(self.config.window or (_WINDOW_CPU if on_cpu else _WINDOW)) // patch) * patch, self.tile)
        # Less than a segmentation's quarter: fewer tiles to wait for.
        self.overlap = self.tile // 8
        self.batch = self.config.batch or (_BATCH_CPU if on_cpu else _BATCH)
        self._seconds = self.config.seconds or (_SECONDS_CPU if on_cpu else _SECONDS)
        self._fine_batch = max(1, (_FINE_PIXELS_CPU if on_cpu else _FINE_PIXELS) // self.tile**2)
        self._images: dict[str, tuple[ImageRecord, TiledImage]] = {}
        self._examples: list[LabelledImage] = []
        self._rounds = 0
        self._drawn = 0
        self._fine_steps = 0
        self._hashes: dict[str, str] = {}
        self._begin()

    def _begin(self) -> None:
        self.paint = Paint(self.model.card.classes, self.window, self.model.config.patch_size)
        self.steps = LiveSteps(self.model, self.config, self.tile, self.window)

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """The class table."""
        return self.model.card.classes

    def use_classes(self, classes: Sequence[ClassInfo]) -> None:
        """Go on with another class table; what is known about classes with an id in both stays."""
        if tuple(classes) == self.classes:
            return
        if [info.id for info in classes] == [info.id for info in self.classes]:
            self.model.card = self.model.card.replace(classes=tuple(classes))
            return
        self.steps.release()
        self.model = with_classes(self.model, classes, self.config.seed)
        self._begin()

    def round(self, request: LiveRequest, control: LiveControl) -> Iterator[Event]:
        """Train on the paint if it changed and holds two classes; then predict.

        Yields
        ------
        Event
            ``LiveStep`` after each step; ``LivePrediction`` for the visible part, of which the last one says so; ``LiveRound``;
            then ``LivePrediction`` for the rest. Nothing more once the request is stale.

        Raises
        ------
        DataError
            If an image cannot be read, or has other channels than the model.
        LabelError
            If an id is not in the class table.
        DeviceError
            If the device's memory does not suffice.
        """
        with device_errors(self.device, ADVICE), limited_threads(self._threads):
            self._take(request)
            before = after = None
            steps = 0
            if self.paint.changed and len(self.paint.present) > 1:
                windows = self.paint.cover(self._tiled, _LOOK_WINDOWS, self._rng())
                before = self.steps.loss(self.paint, self._tiled, windows)
                for loss in self._train(windows, before):
                    steps += 1
                    yield LiveStep("live", request.generation, steps, loss, fine=False)
                    if control.stale(request.generation):
                        return
                after = self.steps.loss(self.paint, self._tiled, windows)
                self._rounds += 1
                self.paint.caught_up()
            done = LiveRound("live", request.generation, self._rounds, steps, False, 0.0, before, after)
            yield from self._predict(request, control, done)

    def _train(self, windows: list[Window], before: float) -> Iterator[float]:
        """Make the steps of a round; yield the loss of each."""
        begun = time.perf_counter()
        goal = 0.5 * before if self.paint.has_new else math.inf
        config = self.config
        for step in range(config.most_steps):
            elapsed = (time.perf_counter() - begun) / self._seconds
            if step >= config.least_steps and elapsed >= 1:
                enough = step % _LOOK_EVERY == 0 and self.steps.loss(self.paint, self._tiled, windows) <= goal
                if enough or elapsed >= _LONGER:
                    return
            # The rate falls towards the end, so that what is predicted is no snapshot of a large step.
            used = max(step / config.most_steps, min(elapsed, 0.9))
            factor = LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * used))
            rng = self._rng()
            drawn = [self.paint.draw(self._tiled, rng, new=place < (self.batch + 1) // 2) for place in range(self.batch)]
            yield float(self.steps.quick(self.paint, self._tiled, drawn, factor)["loss"])

    def refine(self, request: LiveRequest, control: LiveControl) -> Iterator[Event]:
        """Train the whole network, encoder included, for some seconds; then predict as :meth:`round` does.

        Raises
        ------
        LabelError
            If fewer than two classes are painted.
        """
        with device_errors(self.device, ADVICE), limited_threads(self._threads):
            self._take(request)
            if len(self.paint.present) < 2:
                raise LabelError("nothing to refine on yet: paint some pixels of at least two classes")
            windows = self.paint.cover(self._tiled, _LOOK_WINDOWS, self._rng())
            before = self.steps.loss(self.paint, self._tiled, windows)
            steps = 0
            for loss in self._train_all(control, request.generation):
                steps += 1
                yield LiveStep("live", request.generation, steps, loss, fine=True)
                if control.stale(request.generation):
                    return
            after = self.steps.loss(self.paint, self._tiled, windows)
            done = LiveRound("live", request.generation, self._rounds, steps, True, 0.0, before, after)
            yield from self._predict(request, control, done)

    def _train_all(self, control: LiveControl, generation: int) -> Iterator[float]:
        config = self.config
        sampler = LabelledSampler(
            self._examples,
            self.classes,
            statistics_of(self.model.card),
            self.tile,
            self._fine_batch,
            config.seed,
            sparse=True,
        )
        begun = time.perf_counter()
        try:
            for step in range(config.fine_steps):
                used = max(step / config.fine_steps, (time.perf_counter() - begun) / config.fine_seconds)
                if used >= 1 or control.stale(generation):
                    return
                # Every finer round warms up: the encoder has rested while decoder and heads moved on.
                factor = min(1.0, (used + 0.01) / _FINE_WARM_UP) * (LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * used)))
                self._fine_steps += 1
                images, targets = (torch.from_numpy(array).to(self.device) for array in sampler.batch(self._fine_steps))
                with seeded(self.device, config.seed, self._fine_steps) as generator:
                    images, targets = augment(images, targets, jitter=config.jitter, generator=generator)
                yield float(self.steps.fine(images, targets, self.paint.pixels, factor)["loss"])
        finally:
            self.steps.features.forget()

    def _predict(self, request: LiveRequest, control: LiveControl, done: LiveRound) -> Iterator[Event]:
        if request.image is None:
            yield replace(done, seconds=time.perf_counter() - request.asked)
            return
        name = request.image.name
        image = self._tiled[name]
        visible = (request.visible or image.whole).within(image.whole)
        extent = image.surroundings(visible, len(self.classes))
        visible = visible.within(extent)
        canvas = Canvas(image, extent)
        ids = np.array([info.id for info in self.classes], np.uint8)
        first = image.tiles(visible)
        shown = set(first)
        rest = [tile for tile in image.tiles(extent) if tile not in shown]
        parts = [(first, visible), (rest, extent)]
        for tiles, region in parts if visible != extent else parts[:1]:
            waiting: Region | None = None
            last = time.perf_counter()
            for row, band in finished_bands(tiles, region):
                for tile in row:
                    canvas.add(tile, self.steps.predict(image.read(*tile)))
                    if control.stale(request.generation):
                        return
                waiting = band if waiting is None else replace(waiting, bottom=band.bottom)
                complete = band.bottom == region.bottom
                if complete or time.perf_counter() - last >= _SECONDS_BETWEEN_PARTS:
                    labels = ids[canvas.classes(waiting)]
                    is_visible = complete and tiles is first
                    unsure = canvas.uncertainty(waiting)
                    yield LivePrediction(
                        "live", request.generation, name, waiting.top, waiting.left, labels, is_visible, unsure
                    )
                    waiting, last = None, time.perf_counter()
            if tiles is first:
                yield replace(done, seconds=time.perf_counter() - request.asked)

    def answer(self, wanted: Any, control: LiveControl) -> Iterator[Event]:
        """Do what a window asks for: its paint, image, visible part and classes, as a round or as a refinement."""
        self.use_classes(wanted.classes)
        examples = [LabelledImage(record, labels) for record, labels in wanted.paint]
        request = LiveRequest(wanted.generation, examples, wanted.image, Region(*wanted.visible), wanted.asked)
        return self.refine(request, control) if wanted.fine else self.round(request, control)

    def prepare(self, request: LiveRequest, control: LiveControl) -> None:
        """Encode what is visible ahead of the first stroke; ends at once when the request is stale."""
        with device_errors(self.device, ADVICE), limited_threads(self._threads):
            self._take(request)
            if request.image is not None:
                image = self._tiled[request.image.name]
                visible = (request.visible or image.whole).within(image.whole)
                for tile in image.tiles(visible):
                    if control.stale(request.generation):
                        return
                    self.steps.features(image.read(*tile))

    def save(self, path: Path | str) -> Path:
        """Write the model as :func:`~napari_affmae.engine.finetune.finetune` does, to segment, evaluate and go on with.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        figures = {"rounds": self._rounds, "painted_pixels": self.paint.pixels.tolist()}
        labels = [label_fingerprint(example.labels) for example in self._examples]
        data = describe_data(len(self._examples), self._fingerprints(), labels)
        record = describe_run("live", [example.name for example in self._examples], self.config, figures, data)
        card = self.model.card
        try:
            return save_model(self.model, path, **record)
        finally:
            # The history gets one record per session, not one per save.
            self.model.card = card

    def _fingerprints(self) -> list[str]:
        """Return the fingerprints of the images with paint; those that are too large to hold are read part by part only."""
        records = [example.record for example in self._examples if example.record.height * example.record.width <= _MOST_HASHED]
        for record in records:
            if record.name not in self._hashes:
                with suppress(DataError):  # an image that vanished is no reason to lose the model
                    self._hashes[record.name] = fingerprint(record.read())
        return [self._hashes[record.name] for record in records if record.name in self._hashes]

    @property
    def _tiled(self) -> dict[str, TiledImage]:
        return {name: tiled for name, (_, tiled) in self._images.items()}

    def _rng(self) -> np.random.Generator:
        self._drawn += 1
        return np.random.default_rng([self.config.seed, self._drawn])

    def _take(self, request: LiveRequest) -> None:
        """Take over paint and images, keeping what is known about those that are the same."""
        self._examples = list(request.examples)
        wanted = {example.name: example.record for example in request.examples}
        if request.image is not None:
            wanted.setdefault(request.image.name, request.image)
        kept = {}
        for name, record in wanted.items():
            before = self._images.get(name)
            if before is None or before[0] != record or before[0].array is not record.array:
                before = record, self._open(record)
            kept[name] = before
        self._images = kept
        self.paint.update(self._examples)

    def _open(self, record: ImageRecord) -> TiledImage:
        check_channels(self.model, record.channels)
        # Files are decoded once; arrays in memory, and dask and zarr, are read tile by tile.
        whole = record.path is not None or record.chosen_channels is not None
        pixels = record.read() if whole else record.array
        source = ArraySource(pixels, statistics_of(self.model.card))
        return TiledImage(source, self.tile, self.overlap, self.model.config.patch_size)
