"""Pretraining: learn from unlabelled images by predicting patches that are hidden."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..card import ModelCard
from ..config import PretrainConfig
from ..control import JobControl
from ..data.augment import augment
from ..data.normalisation import measure
from ..data.records import ImageCollection
from ..data.scan import scan
from ..data.tiles import TileSampler
from ..errors import ConfigError
from ..events import Event, Notice
from ..model.mae import MaskedAutoencoder
from ..model.masking import draw_mask
from .batches import Arrays
from .checkpoint import Checkpoint, load_checkpoint
from .device import default_batch, default_tile, device_errors, limited_threads, resolve_device, seeded
from .loop import LoopSettings, train
from .optimizer import OptimizerSettings
from .preview import Previewer
from .provenance import describe_data, describe_run, listed
from .run_data import data_of, take_up
from .run_folder import RunFolder
from .schedule import Schedule
from .task import Task
from .tiling import check_tile, check_tile_fits, fitting_tile, padded_images

_PREVIEW_TILE = 512


def pretrain(
    images: ImageCollection | Path | str,
    run: Path | str,
    config: PretrainConfig,
    *,
    files: str | None = None,
    resume: bool = False,
    control: JobControl | None = None,
    threads: int | None = None,
) -> Iterator[Event]:
    """Pretrain a network on images and write it to a run folder.

    Parameters
    ----------
    images
        A collection, a folder (subfolders too), or one image file.
    run
        Folder for the results; must be empty or new unless ``resume``.
    config
        Settings; the number of channels of ``config.model`` must be that of the images.
    files
        With a folder: which of its files to take, a text file of names or ``"split.csv:train"``.
    resume
        Go on with the run in the folder from its last checkpoint. The images must be those that it began with, by name and
        pixels: where some were added to the folder, name the others with ``files``, or start a new run, which learns from
        all. Model, tile (unless it is left open) and seed must be those of before; budget, device and the rest may differ. On a
        CPU, with a budget of steps or epochs, the losses are those of an uninterrupted run, bit for bit.
    control
        Pauses and stops the run from another thread.
    threads
        CPU threads that torch may use meanwhile, for the whole process. A graphical interface should leave itself a core; None
        leaves torch's setting alone.

    Yields
    ------
    Event
        ``Started``; ``Progress`` after each step, with ``Preview``, ``CheckpointSaved`` and ``Notice`` in between; ``Done``.

    Raises
    ------
    DataError
        If no image is usable.
    ConfigError
        If the settings do not fit the images, or settings or images are not those of the run that is resumed.
    DeviceError
        If the device is not there, or its memory is too small for a single tile.
    StorageError
        If the folder holds something already, nothing to resume, or cannot be written.
    ModelFileError
        If the checkpoint is damaged.
    """
    device = resolve_device(config.device)
    if config.tile is not None:
        check_tile(config.tile, config.model.patch_size)
    folder = RunFolder(run)
    start = None
    if resume:
        settings = config.model_dump(mode="json")
        fixed = ("model", "seed") if config.tile is None else ("model", "tile", "seed")
        folder.check_resumable("pretrain", {name: settings[name] for name in fixed})
        start = load_checkpoint(folder.checkpoint, "pretrain")
    collection = images if isinstance(images, ImageCollection) else scan(images, files)
    if collection.channels != config.model.in_channels:
        raise ConfigError(
            f"the images have {collection.channels} channels, but the model is set up for {config.model.in_channels}: "
            f"set in_channels={collection.channels}, or choose other channels of the images"
        )
    if config.tile is not None and not resume:
        check_tile_fits(config.tile, collection, config.model.patch_size)
    chosen = fitting_tile(default_tile(device), collection, config.model.patch_size)
    tile = config.tile or (start.card.tile if start is not None else None) or chosen
    config = config.replace(tile=tile)
    yield from take_up(folder, "pretrain", config, {}, data_of(collection.records), start)
    if collection.skipped:
        yield Notice("pretrain", f"skipped {listed(collection.skipped)}")
    padded = padded_images(tile, collection)
    if padded:
        hint = ", where hidden parts of them can be seen: smaller tiles teach more of such images" if tile > chosen else ""
        yield Notice("pretrain", padded + hint)
    with device_errors(device, "lower the tile size, choose a smaller preset"), limited_threads(threads):
        task = _Pretraining(collection, config, tile, device, start)
        folder.require_space(sum(parameter.numel() for parameter in task.model.parameters()))
        loop = LoopSettings(
            schedule=Schedule(config.budget, config.warmup, task.sampler.tiles_per_epoch / task.batch),
            optimizer=OptimizerSettings(config.learning_rate, config.betas, config.weight_decay, config.clip),
            seed=config.seed,
            checkpoint_seconds=config.checkpoint_seconds,
        )
        yield from train(task, loop, folder, device, control or JobControl(), start)


class _Pretraining(Task):
    job = "pretrain"
    model: MaskedAutoencoder

    def __init__(
        self,
        collection: ImageCollection,
        config: PretrainConfig,
        tile: int,
        device: torch.device,
        start: Checkpoint | None,
    ) -> None:
        self._config = config
        self._records = collection.records
        before = start.progressed.batch if start is not None else None
        self.batch = config.batch or before or default_batch(device, config.model, tile, whole=False)
        with seeded(torch.device("cpu"), config.seed, 0):
            self.model = MaskedAutoencoder(config.model)
        if start is not None and start.card.normalisation is not None:
            self.model.card, normalisation = start.card, start.card.normalisation
        else:
            normalisation = measure(collection, seed=config.seed)
            self.model.card = ModelCard(normalisation=normalisation, pixel_size=collection.pixel_size, tile=tile)
        self.model.to(device)
        self.sampler = TileSampler(collection, normalisation, tile, self.batch, config.seed)
        self._previewer = Previewer(collection, self.model, min(tile, _PREVIEW_TILE), config.seed)
        self._shown_at = float("-inf")

    def read(self, step: int) -> Arrays:
        return (self.sampler.batch(step),)

    def prepare(self, tensors: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        images = augment(tensors[0], jitter=self._config.jitter, generator=generator)[0]
        model = self._config.model
        grid = model.grid(*images.shape[-2:])
        return images, *draw_mask(len(images), grid, model.mask_ratio, model.mask_kind, images.device, generator)

    def loss(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, visible_ids, hidden_ids = tensors
        return self.model.training_loss(images, visible_ids, hidden_ids)

    def after_step(self, step: int, before: float, after: float) -> Iterator[Event]:
        yield from self.left_out(self.sampler.lost)
        if after >= 1 or time.perf_counter() - self._shown_at >= self._config.preview_seconds:
            yield self._previewer.draw(step)
            # Counted from the end of drawing, so that slow machines spend most of their time on training.
            self._shown_at = time.perf_counter()

    def provenance(self) -> dict[str, Any]:
        data = describe_data(self._records, self.sampler.fingerprints, earlier=self.earlier)
        return describe_run("pretrain", [record.name for record in self._records], self._config, self.figures(), data)

    def figures(self) -> dict[str, Any]:
        return {"images": len(self._records), "batch": self.batch}
