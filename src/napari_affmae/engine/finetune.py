"""Finetuning: learn to segment from painted or dense labels, starting from a pretrained model or from scratch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..card import ClassInfo, ModelCard, Normalisation
from ..config import FinetuneConfig
from ..control import JobControl
from ..data.augment import augment
from ..data.fingerprint import label_fingerprint
from ..data.labels import LabelledImage, LabelledSampler, class_table, pair_labels
from ..data.normalisation import measure
from ..data.records import ImageCollection, Skipped, of_one_channel_count
from ..errors import ConfigError, DataError, LabelError, ModelFileError
from ..events import Event, Notice, PartBegun, Score
from ..model.mae import MaskedAutoencoder
from ..model.model_file import load_model
from ..model.segmenter import Segmenter
from ..model_config import PRESETS, ModelConfig
from ..words import NOT_FITTED
from .batches import Arrays
from .checkpoint import Checkpoint, load_checkpoint
from .described_paint import relayed
from .device import default_batch, default_tile, device_errors, limited_threads, resolve_device, seeded
from .image_fit import at_scale_of, check_range, other_scale
from .loop import LoopSettings, train
from .losses import class_weights, finetune_loss, painted_per_tile
from .optimizer import OptimizerSettings
from .predictor import Predictor
from .provenance import describe_data, describe_run, listed
from .run_data import data_of, take_up
from .run_folder import RunFolder
from .schedule import Schedule
from .scoring import Scorer
from .segment import check_channels
from .stroke_readout import are_strokes, stroke_readout
from .task import Task
from .tiling import check_tile, check_tile_fits, fitting_tile, padded_images

SCRATCH = "scratch:"
"""Prefix of a preset's name, where a model is asked for, to start from nothing."""

_BETAS = (0.9, 0.999)
_SCORES = 4
"""Held-out scores per run, the last one at its end."""

_SCORE_PIXELS_CPU = 8 * 256**2
_SCORE_PIXELS = 32 * 512**2
"""Pixels that a score may look at: a few seconds on a CPU, less on a graphics card."""

_LOOKED_AT = 16
"""Labelled images whose values are compared with the range that the network was trained on."""

_FITTING = "fitting a readout to the strokes"

KNOWS_CLASSES = (
    "this network has learned classes before, perhaps from these very labels, so that scores on labels kept back may flatter "
    "it: start from the pretrained network for fair ones"
)
"""What is to be said where a network that was trained on labels is scored in training."""

HEADS, READOUT = "heads", "readout"
"""What says the classes, or :data:`~napari_affmae.words.NOT_FITTED`."""

Model = MaskedAutoencoder | Segmenter


def finetune(
    model: Model | Path | str,
    examples: Sequence[LabelledImage] | tuple[Path | str, Path | str],
    run: Path | str,
    config: FinetuneConfig,
    *,
    classes: Sequence[ClassInfo] | None = None,
    num_classes: int | None = None,
    sparse: bool = False,
    resume: bool = False,
    control: JobControl | None = None,
    threads: int | None = None,
) -> Iterator[Event]:
    """Train a segmenter on labelled images and write it to a run folder.

    Parameters
    ----------
    model
        What to start from: a model, its file or run folder, or ``"scratch:PRESET"``. A segmenter that has the same class table
        goes on with its heads; otherwise heads are new. The model that is passed in is not changed.
    examples
        Labelled images, or a folder of images and one of labels.
    run
        Folder for the results; must be empty or new unless ``resume``.
    config
        Settings.
    classes
        The class table, in the order of the logits; None makes one from the ids in the labels.
    num_classes
        Number of classes, if some are missing from the labels and ``classes`` is not given.
    sparse
        Whether 0 means not labelled. Only labelled pixels count.
    resume, control, threads
        As in :func:`~napari_affmae.engine.pretrain.pretrain`; to resume, the labels must be those of before, too. The run knows
        what it started from; ``model`` does not matter then, unless the model that it saved is lost.

    Yields
    ------
    Event
        ``Started``; ``Progress`` after each step, with ``Score`` (if the labels can spare some to be kept back),
        ``CheckpointSaved`` and ``Notice`` in between; ``Done``.

    Raises
    ------
    LabelError
        If there is no paint, one class only, or an id outside of the class table.
    DataError
        If the images are not usable, or have other channels than the model.
    ConfigError
        If the preset is unknown, or settings, images or labels are not those of the run that is resumed.
    ModelFileError
        If the model or the checkpoint cannot be read.
    DeviceError, StorageError
        As in :func:`~napari_affmae.engine.pretrain.pretrain`.
    """
    device = resolve_device(config.device)
    labelled, skipped = labelled_images(examples, sparse)
    table = tuple(classes) if classes is not None else class_table(labelled, sparse=sparse, num_classes=num_classes)
    folder = RunFolder(run)
    fixed = {"classes": [info.model_dump(mode="json") for info in table], "sparse": sparse}
    start, origin = None, _place(model) if isinstance(model, str | Path) else None
    if resume:
        settings = config.model_dump(mode="json")
        names = ("seed", "held_out") if config.tile is None else ("seed", "held_out", "tile")
        folder.check_resumable("finetune", {**fixed, **{name: settings[name] for name in names}})
        start = load_checkpoint(folder.checkpoint, "finetune")
        # What it began with may have been moved since, or another one may be given: the run knows.
        origin = folder.fact("start") or origin
        model = _saved(folder) or model
    collection = ImageCollection(tuple(example.record for example in labelled))
    network = start_segmenter(model, table, collection.channels, config.seed)
    check_channels(network, collection.channels)
    if config.tile is not None:
        check_tile(config.tile, network.config.patch_size)
        if not resume:
            check_tile_fits(config.tile, collection, network.config.patch_size)
    before, knows_classes = network.card.pixel_size, bool(network.card.classes)
    if start is None:
        card = started_card(network, table, collection, config.tile, config.seed, device)
        network.card = at_scale_of(card, collection.records)
    else:
        network.card = start.card.replace(classes=table)
    config = config.replace(tile=config.tile or network.card.tile)
    facts = fixed if origin is None else {**fixed, "start": origin}
    yield from take_up(folder, "finetune", config, facts, data_of(collection.records, labelled), start)
    if skipped:
        yield Notice("finetune", f"skipped {listed(skipped)}")
    padded = padded_images(network.card.tile or default_tile(device), collection)
    if padded:
        yield Notice("finetune", padded)
    scale = other_scale(before, network.card.pixel_size, collection.records)
    if scale:
        yield Notice("finetune", scale)
    with device_errors(device, "lower the tile size, choose a smaller preset"), limited_threads(threads):
        task = _Finetuning(network, labelled, table, config, device, sparse, start)
        folder.require_space(sum(parameter.numel() for parameter in network.parameters()))
        clipped = check_range(task.some_images(), statistics_of(network.card))
        if clipped:
            yield Notice("finetune", clipped)
        loop = LoopSettings(
            schedule=Schedule(config.budget, config.warmup, task.sampler.tiles_per_epoch / task.batch),
            optimizer=OptimizerSettings(
                config.learning_rate,
                _BETAS,
                config.weight_decay,
                config.clip,
                1.0 if is_scratch(origin) else config.layer_decay,
            ),
            seed=config.seed,
            checkpoint_seconds=config.checkpoint_seconds,
            average=config.average,
        )
        if not task.scorer and config.held_out > 0:
            yield Notice("finetune", "there is too little paint to keep some of it back, so no score is measured on the way")
        if task.scorer and knows_classes and start is None:
            yield Notice("finetune", KNOWS_CLASSES)
        yield from train(task, loop, folder, device, control or JobControl(), start)


class _Finetuning(Task):
    job = "finetune"
    model: Segmenter

    def __init__(
        self,
        model: Segmenter,
        examples: Sequence[LabelledImage],
        classes: tuple[ClassInfo, ...],
        config: FinetuneConfig,
        device: torch.device,
        sparse: bool,
        start: Checkpoint | None,
    ) -> None:
        tile = model.card.tile or default_tile(device)
        normalisation = statistics_of(model.card)
        before = start.progressed.batch if start is not None else None
        self._config = config
        self._records = [example.record for example in examples]
        self._labels = [label_fingerprint(example.labels) for example in examples]
        self.batch = config.batch or before or default_batch(device, model.config, tile, whole=True)
        self.model = model.to(device)
        self.sampler = LabelledSampler(
            examples, classes, normalisation, tile, self.batch, config.seed, sparse=sparse, held_out=config.held_out
        )
        self._weights = class_weights(self.sampler.class_pixels).to(device)
        budget = _SCORE_PIXELS_CPU if device.type == "cpu" else _SCORE_PIXELS
        self.scorer = Scorer(self.sampler.held_out, classes, normalisation, tile, max(1, budget // tile**2))
        self._predict = Predictor(model, device)
        self._device, self._tile, self._normalisation = device, tile, normalisation
        self._strokes = sparse and are_strokes(self.sampler)
        self._classes_from = NOT_FITTED if self._strokes else HEADS
        self._score: Score | None = None

    def some_images(self) -> Iterator[tuple[str, Any]]:
        """Yield the first images with their names; training reads them in any case, and keeps what fits into memory."""
        for index, record in enumerate(self._records[:_LOOKED_AT]):
            with suppress(DataError):  # training leaves it out and says so
                yield record.name, self.sampler.image(index)

    def read(self, step: int) -> Arrays:
        return self.sampler.batch(step)

    def prepare(self, tensors: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        config = self._config
        images, targets = augment(tensors[0], tensors[1], jitter=config.jitter, deform=config.deform, generator=generator)
        return images, targets, painted_per_tile(targets)

    def loss(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, targets, per_tile = tensors
        return finetune_loss(self.model(images), targets, self._weights, self._config.focus, per_tile)

    def after_step(self, step: int, before: float, after: float) -> Iterator[Event]:
        yield from self.left_out(self.sampler.lost)
        if self.scorer and int(after * _SCORES) > int(before * _SCORES):
            with self.result():
                self._score = self.scorer.score(step, self._predict)
            yield self._score
        while self._predict.notices:
            yield Notice("finetune", self._predict.notices.pop(0))

    def finish(self, step: int) -> Iterator[Event]:
        if not self._strokes:
            return
        yield PartBegun("finetune", _FITTING, 0.0)
        told = self._score
        heads = self._scored(step)
        fitting = stroke_readout(self.model, self.sampler, self._normalisation, self._tile, self._config.seed, self._device)
        readout = yield from relayed(fitting, lambda done: PartBegun("finetune", _FITTING, done))
        yield from self.left_out(self.sampler.lost)
        self.model.readout, self._classes_from, self.unsaved = readout, READOUT, True
        self._predict = Predictor(self.model, self._device)  # the old one may have recorded the heads
        self._score = None
        score = self._scored(step)
        if heads is not None and score is not None and score.miou < heads.miou:
            self.model.readout, self._classes_from, self._score = None, HEADS, heads
            yield Notice("finetune", "the network's heads do better than the readout on paint kept back, and stay")
            if heads is not told:
                yield heads
            return
        if score is not None:
            yield score

    def _scored(self, step: int) -> Score | None:
        """Return the score of the model as it is now, which may be known already; None where nothing was kept back."""
        if self.scorer and (self._score is None or self._score.step != step):
            self._score = self.scorer.score(step, self._predict)
        return self._score

    def provenance(self) -> dict[str, Any]:
        data = describe_data(self._records, self.sampler.fingerprints, self._labels, self.earlier)
        return describe_run("finetune", [record.name for record in self._records], self._config, self.figures(), data)

    @property
    def unfinished(self) -> bool:
        return self._earlier_classes == NOT_FITTED

    @property
    def rough(self) -> bool:
        return self._classes_from == NOT_FITTED and self._earlier_classes not in (None, NOT_FITTED)

    @property
    def _earlier_classes(self) -> str | None:
        classes_from: str | None = self.earlier.get("figures", {}).get("classes_from")
        return classes_from

    def figures(self) -> dict[str, Any]:
        pixels = [int(count) for count in self.sampler.class_pixels]
        figures = {
            "images": len(self._records),
            "batch": self.batch,
            "painted_pixels": pixels,
            "classes_from": self._classes_from,
        }
        if self._score is None:
            return figures
        return {
            **figures,
            "held_out_miou": self._score.miou,
            "held_out_iou": dict(self._score.iou),
            "held_out_pixels": self._score.pixels,
            "held_out": self.sampler.held_out_kind,
            "held_out_step": self._score.step,
        }


def labelled_images(
    examples: Sequence[LabelledImage] | tuple[Path | str, Path | str], sparse: bool
) -> tuple[list[LabelledImage], list[Skipped]]:
    """Read examples from a pair of folders, or keep those of the majority's channels; in the order that training takes."""
    labelled, skipped = _usable(examples, sparse)
    # What is drawn and kept back depends on the order, and that of layers in a viewer may be another when a run is resumed.
    return sorted(labelled, key=lambda example: example.name), skipped


def _usable(
    examples: Sequence[LabelledImage] | tuple[Path | str, Path | str], sparse: bool
) -> tuple[list[LabelledImage], list[Skipped]]:
    if isinstance(examples, tuple) and len(examples) == 2 and all(isinstance(part, str | Path) for part in examples):
        return pair_labels(Path(str(examples[0])), Path(str(examples[1])), sparse=sparse)
    given = [example for example in examples if isinstance(example, LabelledImage)]
    if not given:
        raise LabelError("no labelled images: paint on at least one image")
    majority, skipped = of_one_channel_count([example.record for example in given])
    return [example for example in given if example.record.channels == majority], skipped


def _saved(folder: RunFolder) -> Model | None:
    """Return the model that a run saved last; None if that is lost."""
    try:
        return load_model(folder.model)
    except ModelFileError:
        return None


def is_scratch(start: Path | str | None) -> bool:
    """Whether training starts from a new network."""
    return isinstance(start, str) and start.startswith(SCRATCH)


def _place(start: Path | str) -> str:
    """Return what training starts from as it can be given again, from wherever that is done."""
    return str(start) if is_scratch(start) else str(Path(start).absolute())


def start_segmenter(model: Model | Path | str, classes: tuple[ClassInfo, ...], channels: int, seed: int) -> Segmenter:
    """Return a new segmenter that starts from what was asked for; its card is that of the start, or empty."""
    with seeded(torch.device("cpu"), seed, 0):
        if isinstance(model, str) and is_scratch(model):
            name = model.removeprefix(SCRATCH)
            if name not in PRESETS:
                raise ConfigError(
                    f"unknown preset {name!r} in {model!r}: choose one of {', '.join(SCRATCH + n for n in PRESETS)}"
                )
            return Segmenter(ModelConfig(**{**PRESETS[name], "in_channels": channels}), len(classes))
        source = load_model(model) if isinstance(model, str | Path) else model
        segmenter = Segmenter(source.config, len(classes))
    # A readout belongs to the network as it was: training starts from the network and its heads.
    weights = {name: value for name, value in source.state_dict().items() if not name.startswith("readout.")}
    same_heads = isinstance(source, Segmenter) and tuple(c.id for c in source.card.classes) == tuple(c.id for c in classes)
    if not same_heads:
        weights = {name: value for name, value in weights.items() if not name.startswith("heads.")}
    segmenter.load_state_dict(weights, strict=same_heads)
    segmenter.card = source.card
    return segmenter


def started_card(
    network: Segmenter,
    classes: tuple[ClassInfo, ...],
    collection: ImageCollection,
    tile: int | None,
    seed: int,
    device: torch.device,
) -> ModelCard:
    """Return the card of a model to be trained: what the start knew, the classes, and what the images say about the rest."""
    card = network.card
    patch = network.config.patch_size
    tile = tile or card.tile or fitting_tile(default_tile(device), collection, patch)
    return card.replace(
        normalisation=card.normalisation or measure(collection, seed=seed),
        pixel_size=card.pixel_size or collection.pixel_size,
        classes=classes,
        tile=-(-tile // patch) * patch,
    )


def statistics_of(card: ModelCard) -> Normalisation:
    """Return the statistics in a card that must have some."""
    if card.normalisation is None:
        raise DataError("the model's card lost the statistics of its images; start a new run")
    return card.normalisation
