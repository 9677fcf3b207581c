"""Live training: a session that answers every stroke with a quick round, and every quiet minute with a finer one.

A quick round fits a readout to all paint there is, on what the network describes of its tiles, which is computed once. Then it
predicts: what is visible, then the rest of the image, and takes up paint on images that are not open. It ends at once when a
newer request makes it stale. While nobody paints, :meth:`LiveSession.refine` lets the network learn, and keeps what it learned
if that helps on paint that was kept back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..card import ClassInfo
from ..config import LiveConfig
from ..control import LiveControl
from ..data.label_images import LabelledImage
from ..data.labelled_tiles import LabelledSampler
from ..data.records import ImageCollection
from ..errors import DataError, LabelError, StorageError
from ..events import Event, ImageBegun, LiveRound, LiveStep, Notice
from ..model.model_file import load_model
from ..model.readout import Readout
from ..model.segmenter import Segmenter
from .class_heads import with_classes
from .described_paint import DescribedPaint, Rows, Superseded, describe_pixels, result_of
from .device import default_tile, device_errors, limited_threads, resolve_device
from .finetune import Model, is_scratch, start_segmenter, started_card
from .fit_readout import STEPS, balanced_loss_on, loss_on
from .live_closed import ClosedPaint
from .live_features import FeatureCache
from .live_fine import MOST_PIXELS
from .live_images import LiveImages
from .live_network import LiveNetwork
from .live_paint import Paint, PaintedPixels, pixels_of, without
from .live_predict import nothing_on, predict_outwards
from .live_request import LiveRequest
from .live_tiles import Region, TiledImage
from .segment import check_channels
from .tiling import FloatArray

_NEW_PIXELS = 2000
"""New paint on which the loss before and after a round is measured."""

_WORTH = 0.005
"""Cross-entropy by which a finer round must improve: where paint that was kept back is explained already, it says nothing."""

ADVICE = "lower the tile size, choose a smaller preset"


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
        with device_errors(self.device, ADVICE), limited_threads(threads):
            source = load_model(model) if isinstance(model, str | Path) and not is_scratch(model) else model
            if not isinstance(source, Segmenter):
                source = start_segmenter(source, tuple(classes), images.channels, self.config.seed)
            network = with_classes(source, classes, self.config.seed)
            check_channels(network, images.channels)
            # Which images there will be is not known yet: a tile that is left open must not fit the first one alone.
            tile = self.config.tile or network.card.tile or default_tile(self.device)
            network.card = started_card(network, tuple(classes), images, tile, self.config.seed, self.device)
            network = network.to(self.device)
        patch = network.config.patch_size
        self.tile = -(-tile // patch) * patch
        self.images = LiveImages(self.tile)
        self._examples: list[LabelledImage] = []
        self._predicted: set[str] = set()
        self._begin(LiveNetwork(network, self.config, self.tile, heads_trained=_trained_on(source, classes)))

    def _begin(self, network: LiveNetwork) -> None:
        self._network = network
        self.paint = Paint(self.classes)
        self._described = DescribedPaint(self.model.num_classes, self.device)
        self._closed = ClosedPaint()
        self.features = FeatureCache(self.model, self.config.cache_bytes)

    @property
    def model(self) -> Segmenter:
        """The network, and its readout if it has one yet."""
        return self._network.model

    @property
    def unsaved(self) -> bool:
        """Whether it has learned something since it was opened or saved."""
        return self._network.unsaved

    @property
    def undone(self) -> bool:
        """Whether all that it learned was undone, and it began with nothing: there is nothing to save, nor to go on from."""
        return self._network.undone

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
        self.features.release()
        self._begin(self._network.with_classes(classes))

    def round(self, request: LiveRequest, control: LiveControl) -> Iterator[Event]:
        """Fit the readout to all paint if it changed and holds two classes; then predict.

        If it no longer holds two classes, the model is what the session began with, and if that knows nothing, what was
        predicted becomes 0. If nothing was ever learned, what is visible is only looked at, which the first stroke then need
        not wait for.

        Yields
        ------
        Event
            ``LiveStep`` after each step; ``LivePrediction`` for the visible part, of which the last one says so; ``LiveRound``;
            then ``LivePrediction`` for the rest. ``ImageBegun`` for each closed image that is taken up, and after them all of
            it once more. Nothing more once the request is stale.

        Raises
        ------
        DataError
            If an image cannot be read, or has other channels than the model.
        LabelError
            If an id is not in the class table.
        DeviceError
            If the device's memory does not suffice.
        """
        with device_errors(self.device, ADVICE), limited_threads(self._threads), suppress(Superseded):
            self._take(request)
            while self.images.notices:
                yield Notice("live", self.images.notices.pop(0))
            stale = partial(control.stale, request.generation)
            before = after = None
            steps = 0
            if len(self.paint.present) < 2:
                if self._network.learned and not self._closed.waiting:
                    self._put_back()
            elif self.paint.changed or self._network.unfitted:
                rows = self._all_rows(stale)
                newest = self._rows(self.paint.new, _NEW_PIXELS, stale) if self.paint.partly_new else rows
                before = loss_on(self.model.readout, newest, self.model.num_classes)
                fitting = self._network.fit(rows)
                for steps in range(1, STEPS + 1):
                    yield LiveStep("live", request.generation, steps, next(fitting), fine=False)
                    if stale():
                        return
                readout = self._learn(result_of(fitting))
                after = loss_on(readout, newest, self.model.num_classes)
                self._network.record.round(balanced_loss_on(readout, rows, self.model.num_classes))
            done = LiveRound("live", request.generation, self._network.record.rounds, steps, False, 0.0, before, after)
            if self._network.knows:
                yield from self._predict(request, control, done)
            else:
                yield from self._nothing(request)
                self._look_ahead(request, control)
            if not stale() and (yield from self._take_up(request, stale)):
                yield from self.round(replace(request, asked=time.perf_counter()), control)

    def _nothing(self, request: LiveRequest) -> Iterator[Event]:
        """Take what was predicted off the image, every time: a window drops what comes after its next request."""
        if request.image is not None and request.image.name in self._predicted:
            yield nothing_on(request.image, request.generation)
        yield LiveRound("live", request.generation, 0, 0, False, time.perf_counter() - request.asked, None, None)

    def _take_up(self, request: LiveRequest, stale: Callable[[], bool]) -> Generator[Event, None, bool]:
        """Take up the paint of closed images, one after the other; return whether there was any."""
        names, taken = self._closed.waiting, False
        for place, name in enumerate(names, self._closed.count - len(names) + 1):
            yield ImageBegun("live", name, place, self._closed.count)
            try:
                self._closed.take(name)
                self._take(request)
                part = self.paint.of(name)
                halved = (len(self.paint.all) - 1).bit_length()
                looking = self._described.look(part, self.config.most_pixels, halved, self._opened, self.features)
                result_of(looking, stale)
                self.paint.not_new(name)
            except Superseded:
                self._closed.put_back(name)
                raise
            except (DataError, LabelError, StorageError) as error:
                self._closed.leave_out(name)
                self._take(request)
                yield Notice("live", f"live goes on without the paint on {name}: {error}")
                continue
            self._network.unfitted = taken = True
        return taken

    def refine(self, request: LiveRequest, control: LiveControl) -> Iterator[Event]:
        """Train the whole network for some seconds on part of the paint; then predict as :meth:`round` does.

        What was learned is kept only if a readout on it does better on the paint that was kept back. Only paint on open images
        of up to ``live_fine.MOST_PIXELS`` counts; where it cannot spare any, nothing is trained. With fewer than two classes
        painted, it is :meth:`round`.
        """
        with device_errors(self.device, ADVICE), limited_threads(self._threads), suppress(Superseded):
            stale = partial(control.stale, request.generation)
            if stale():
                return
            self._take(request)
            if len(self.paint.present) < 2:
                yield from self.round(request, control)
                return
            steps, before, after = 0, None, None
            examples = [example for example in self._examples if example.record.height * example.record.width <= MOST_PIXELS]
            opened = {example.name for example in examples}
            painted = [part for part in self.paint.all if part.image in opened]
            if len({class_id for part in painted for class_id in np.unique(part.classes).tolist()}) > 1:
                sampler = self._network.sampler(examples)
                if sampler.held_out:
                    steps, before, after = yield from self._attempt(request, sampler, painted, stale)
            done = LiveRound("live", request.generation, self._network.record.rounds, steps, True, 0.0, before, after)
            yield from self._predict(request, control, done)

    def _attempt(
        self, request: LiveRequest, sampler: LabelledSampler, painted: list[PaintedPixels], stale: Callable[[], bool]
    ) -> Generator[Event, None, tuple[int, float, float]]:
        """Train the network; return the steps, and losses on paint that was kept back: before, and with what is in use then."""
        kept_back = [pixels_of(part.record.name, part.targets) for part in sampler.held_out]
        learned = without(painted, kept_back)
        before = self._score(learned, kept_back, stale)
        steps, features = 0, self.features
        self.features = FeatureCache(self.model, self.config.cache_bytes)
        with self._network.attempt() as attempt:
            try:
                for loss in self._network.train(sampler):
                    steps += 1
                    yield LiveStep("live", request.generation, steps, loss, fine=True)
                    if stale():
                        raise Superseded
                self.features.forget()
                after = self._score(learned, kept_back, stale)
                attempt.kept = before - after >= _WORTH
            finally:
                if not attempt.kept:
                    self.features = features
        if not attempt.kept:
            return steps, before, before
        features.release()
        self._described = DescribedPaint(self.model.num_classes, self.device)
        self._closed.put_all_back()
        self._take(request)
        yield from self._take_up(request, stale)
        rows = self._all_rows(stale)
        readout = self._learn(result_of(self._network.fit(rows)))
        self._network.record.refined(balanced_loss_on(readout, rows, self.model.num_classes))
        return steps, before, after

    def _learn(self, readout: Readout) -> Readout:
        """Take a readout that was fitted to all paint as it is now."""
        self._network.learn(readout, [*self._examples, *self._closed.examples], self.paint.counts.tolist())
        self.paint.caught_up()
        return readout

    def _put_back(self) -> None:
        """Be what the session began with: of the paint that it learned from, too little is left to learn from."""
        if self._network.put_back():
            self.features.forget()
            self._described = DescribedPaint(self.model.num_classes, self.device)

    def _score(self, learned: list[PaintedPixels], kept_back: list[PaintedPixels], stale: Callable[[], bool]) -> float:
        """Return the loss on paint that was kept back, of a readout that is fitted to the other."""
        readout = result_of(self._network.fit(self._rows(learned, self.config.most_pixels, stale)))
        return balanced_loss_on(readout, self._rows(kept_back, self.config.most_pixels, stale), self.model.num_classes)

    def _all_rows(self, stale: Callable[[], bool] | None = None) -> Rows:
        """Look at all paint; at what was not looked at before with this network, that is."""
        looking = self._described.rows(self.paint.all, self.config.most_pixels, self._opened, self.features)
        return result_of(looking, stale)

    def _rows(self, pixels: list[PaintedPixels], most: int, stale: Callable[[], bool] | None = None) -> Rows:
        looking = describe_pixels(pixels, self.model.num_classes, most, self._opened, self.features, self.device)
        rows, _ = result_of(looking, stale)
        return rows

    def predict(self, pixels: FloatArray, background: FloatArray) -> FloatArray:
        """Return probabilities ``[K, T, T]`` of a tile ``[C, T, T]`` of an image with a background ``[C]``."""
        description = self.features(pixels, background)
        with torch.no_grad():
            logits = description.logits if self.model.readout is None else self.model.readout(description)
            probabilities: FloatArray = logits.softmax(dim=1)[0].cpu().numpy()
        return probabilities

    def _predict(self, request: LiveRequest, control: LiveControl, done: LiveRound) -> Iterator[Event]:
        if request.image is None:
            yield replace(done, seconds=time.perf_counter() - request.asked)
            return
        self._predicted.add(request.image.name)
        name, ids = request.image.name, np.array([info.id for info in self.classes], np.uint8)
        for event in predict_outwards(name, self.images[name], request.visible, ids, self.predict, control, request.generation):
            yield event
            if event.visible:
                yield replace(done, seconds=time.perf_counter() - request.asked)

    def answer(self, wanted: Any, control: LiveControl) -> Iterator[Event]:
        """Do what a window asks for: its paint, image, visible part and classes, as a round or as a refinement.

        A single class is like paint of a single class: nothing is predicted.
        """
        examples = [LabelledImage(record, labels) for record, labels in wanted.paint]
        region = Region(*wanted.visible)
        request = LiveRequest(wanted.generation, examples, wanted.image, region, wanted.closed, wanted.asked)
        if len(wanted.classes) < 2:
            return self._nothing(request)
        self.use_classes(wanted.classes)
        return self.refine(request, control) if wanted.fine else self.round(request, control)

    def _look_ahead(self, request: LiveRequest, control: LiveControl) -> None:
        """Describe what is visible before anything is learned: the first round is as quick as the others then."""
        if request.image is None:
            return
        image = self.images[request.image.name]
        for tile in image.tiles((request.visible or image.whole).within(image.whole)):
            if control.stale(request.generation):
                return
            self.features(image.read(*tile), image.background)

    def save(self, path: Path | str) -> Path:
        """Write the model as :func:`~napari_affmae.engine.finetune.finetune` does, to segment, evaluate and go on with.

        Paint that came after the latest readout is neither in the model nor in its history. After a refinement whose readout is
        still to be fitted, it is the network that there was before.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        return self._network.save(path)

    def _take(self, request: LiveRequest) -> None:
        """Take over paint and images, keeping what is known about those that are the same."""
        self._examples = list(request.examples)
        wanted = {example.name: example.record for example in request.examples}
        if request.image is not None:
            wanted.setdefault(request.image.name, request.image)
        self.images.keep(wanted, self.model)
        self._closed.want(request.closed, wanted)
        self.paint.update([*self._examples, *self._closed.examples])

    def _opened(self, name: str) -> TiledImage:
        """Return the tiles of an image; those of a closed one are not kept."""
        if name in self.images:
            return self.images[name]
        [record] = [example.record for example in self._closed.examples if example.name == name]
        return self.images.open(record, self.model)


def _trained_on(model: Segmenter, classes: Sequence[ClassInfo]) -> bool:
    """Whether a segmenter's heads were trained on just these classes; those below a readout need not have been."""
    same = {info.id for info in model.card.classes} == {info.id for info in classes}
    return same and (model.readout is None or bool(model.readout.heads_share > 0))
