"""How each method comes from images to segmentations."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_affmae.bench.run import describe_machine
from napari_affmae.card import Normalisation
from napari_affmae.config import Budget, FinetuneConfig, PretrainConfig
from napari_affmae.data.augment import augment
from napari_affmae.data.classes import to_targets
from napari_affmae.data.label_images import LabelledImage
from napari_affmae.data.labelled_tiles import LabelledSampler
from napari_affmae.data.normalisation import measure
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.tiles import TileSampler
from napari_affmae.engine.device import inference_autocast
from napari_affmae.engine.finetune import SCRATCH, finetune
from napari_affmae.engine.image_source import ArraySource
from napari_affmae.engine.losses import class_weights
from napari_affmae.engine.pretrain import pretrain
from napari_affmae.engine.segment import load_segmenter, segment
from napari_affmae.engine.tiling import TiledPrediction, WholeImage
from napari_affmae.engine.views import from_views
from napari_affmae.events import Done, Event
from napari_affmae.model.masking import draw_mask
from napari_affmae.model_config import ModelConfig

from .datasets import labelled, painted, spread, unlabelled
from .fit import fit, segmentation_loss
from .networks import VitSegmenter, new_unet, new_vit_mae
from .trial import PRETRAINED, VIT_USUAL, Trial, pretraining

Predict = Callable[[npt.NDArray[Any]], npt.NDArray[np.int64]]
"""From an image to class indices ``[H, W]``."""

Learned = tuple[Predict, dict[str, Any]]
"""What a method learned, and figures about how."""

PRETRAIN_JITTER = PretrainConfig(model=ModelConfig()).jitter
"""Intensity jitter in pretraining, of the other networks: our default."""

SHARED = ("jitter", "deform", "focus", "average")
"""Settings of our finetuning that all networks get, so that none is ahead by its augmentation or its loss."""

NEVER = 1e6
"""Seconds between previews and checkpoints, which the other networks do not make."""

STEPS_FILE, VIT_FILE = "steps", "vit.pt"
"""In the folder of a pretrained model: how many steps ours made; the weights of a ViT and its steps. Written last."""


class Methods:
    """All methods on one folder of data; pretrained models are kept in a folder, and shared by trials that differ in labels.

    Parameters
    ----------
    root
        Folder of the data sets.
    work
        Folder for runs; pretrained models that are there already are taken.
    device
        Where networks train.
    compiled
        Whether the other networks are compiled; a minute each, which the clock does not count.
    commit
        Of the code: a model that other code pretrained is not taken.
    """

    def __init__(self, root: Path, work: Path, device: torch.device, compiled: bool, commit: str) -> None:
        self._root = root
        self._work = work
        self._device = device
        self._commit = commit
        self._compiled = compiled and device.type == "cuda"
        self._built: set[tuple[Any, ...]] = set()
        self._pool = cache(lambda dataset: unlabelled(root, dataset))

    def expected_minutes(self, trial: Trial) -> float:
        """Return the minutes of training that a trial takes now; a model that is pretrained already takes none."""
        if trial.method == "forest":  # it has no clock
            return 0.0
        begins = trial.method in PRETRAINED and not self._whole(trial).is_file()
        return trial.labelled_minutes + (trial.minutes if begins else 0.0)

    def learn(self, trial: Trial) -> Learned:
        """Train as a trial says."""
        given = spread(labelled(self._root, trial.data, "train"), trial.labels)
        examples = painted(given, trial.paint, trial.seed)
        if trial.method == "forest":
            return self._forest(trial, examples)
        if trial.method == "unet":
            norm = trial.settings.get("norm")
            network = new_unet(self._channels(examples), len(trial.data.classes), trial.seed, norm)
            return self._network(trial, network, examples, None, 1e-3)
        if trial.method.startswith("vit"):
            return self._vit(trial, examples)
        return self._affmae(trial, examples)

    def _affmae(self, trial: Trial, examples: list[LabelledImage]) -> Learned:
        figures: dict[str, Any] = {}
        start: Path | str = SCRATCH + trial.preset
        if trial.method == "affmae" and trial.minutes > 0:
            start, figures = self._pretrained(trial)
        settings = {"layer_decay": 1.0} if isinstance(start, str) else {}
        config = FinetuneConfig(
            budget=Budget(minutes=trial.labelled_minutes),
            tile=trial.tile,
            batch=trial.batch,
            seed=trial.seed,
            device=self._device.type,
            checkpoint_seconds=NEVER,
            **{"held_out": 0.0, **settings, **trial.chosen("finetune")},
        )
        table, sparse = trial.data.table(trial.paint), trial.paint == "scribbles"

        def job(run: Path, budget: Budget) -> Iterator[Event]:
            return finetune(start, examples, run, config.replace(budget=budget), classes=table, sparse=sparse)

        self._build_kernels(job, ("labels", trial.preset, trial.tile, trial.batch, len(table)))
        with TemporaryDirectory(prefix="labels-", dir=self._work) as folder:
            figures["steps"] = _steps(job(Path(folder), config.budget))
            model = load_segmenter(Path(folder))
        ids = [info.id for info in table]

        def predict(image: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
            labels = segment(model, image, device=self._device.type, tile=trial.tile, views=trial.views).labels
            return np.searchsorted(ids, labels).astype(np.int64)

        return predict, figures

    def _pretrained(self, trial: Trial) -> tuple[Path, dict[str, Any]]:
        """Return the run folder of our pretrained model, and its number of steps."""
        run = self._whole(trial).parent
        if not run.exists():
            pool = self._pool(trial.data)
            config = PretrainConfig(
                model=ModelConfig.preset(trial.preset, pool.channels, **trial.chosen("model")),
                budget=Budget(minutes=trial.minutes),
                tile=trial.tile,
                batch=trial.pretrain_batch,
                seed=trial.seed,
                device=self._device.type,
                preview_seconds=NEVER,
                checkpoint_seconds=NEVER,
                **trial.chosen("pretrain"),
            )

            def job(run: Path, budget: Budget) -> Iterator[Event]:
                return pretrain(pool, run, config.replace(budget=budget))

            self._build_kernels(job, ("pretrain", config.model.to_json(), trial.tile, trial.pretrain_batch))
            # Under its name only when it is whole: a process that dies leaves nothing that looks like a model.
            begun = Path(mkdtemp(prefix="pretrain-", dir=self._work))
            steps = _steps(job(begun, config.budget))
            (begun / STEPS_FILE).write_text(str(steps))
            if run.exists():  # another process was faster
                shutil.rmtree(begun)
            else:
                begun.rename(run)
        return run, {"pretraining_steps": int((run / STEPS_FILE).read_text())}

    def _build_kernels(self, job: Callable[[Path, Budget], Iterator[Event]], key: tuple[Any, ...]) -> None:
        """Let a job make a few steps on a card before its clock starts: the other networks are compiled off the clock, too."""
        if self._device.type == "cuda" and key not in self._built:
            with TemporaryDirectory(prefix="kernels-", dir=self._work) as folder:
                _steps(job(Path(folder), Budget(steps=3)))
            self._built.add(key)

    def _vit(self, trial: Trial, examples: list[LabelledImage]) -> Learned:
        mae = new_vit_mae(trial.preset, self._channels(examples), trial.seed)
        figures: dict[str, Any] = {}
        normalisation = None
        if trial.method == "vit-mae" and trial.minutes > 0:
            pool = self._pool(trial.data)
            normalisation = measure(pool, seed=trial.seed)
            file = self._whole(trial)
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                sampler = TileSampler(pool, normalisation, trial.tile, trial.pretrain_batch, trial.seed)
                usual = replace(trial, settings={**VIT_USUAL, **trial.settings})
                mae.to(self._device)
                loss_of = self._compile(mae.training_loss)
                steps = fit(
                    mae,
                    lambda batch: loss_of(*batch),
                    lambda step: (sampler.batch(step),),
                    _masking(ModelConfig(**usual.chosen("model"))),
                    budget=Budget(minutes=trial.minutes),
                    rate=usual.settings["pretrain_rate"],
                    betas=(0.9, 0.95),
                    warmup=0.05,
                    seed=trial.seed,
                    device=self._device,
                )
                partial = file.with_suffix(".partial")
                torch.save({"weights": mae.state_dict(), "steps": steps}, partial)
                partial.rename(file)
            found = torch.load(file, map_location="cpu", weights_only=True)
            mae.load_state_dict(found["weights"])
            figures["pretraining_steps"] = found["steps"]
        network = VitSegmenter(mae, len(trial.data.classes))
        learned, more = self._network(trial, network, examples, normalisation, 1e-3)
        return learned, {**figures, **more}

    def _network(
        self,
        trial: Trial,
        network: nn.Module,
        examples: list[LabelledImage],
        normalisation: Normalisation | None,
        rate: float,
    ) -> Learned:
        """Train a network that returns logits on labels."""
        normalisation = normalisation or measure(ImageCollection(tuple(e.record for e in examples)), seed=trial.seed)
        sampler = LabelledSampler(
            examples,
            trial.data.table(trial.paint),
            normalisation,
            trial.tile,
            trial.batch,
            trial.seed,
            sparse=trial.paint == "scribbles",
        )
        network.to(self._device)
        weights = class_weights(sampler.class_pixels).to(self._device)
        shared = FinetuneConfig(**{name: value for name, value in trial.chosen("finetune").items() if name in SHARED})
        # Whoever was pretrained keeps what it knows below, as ours does.
        depths = network.by_depth() if isinstance(network, VitSegmenter) else None
        pretrained = trial.method == "vit-mae" and trial.minutes > 0
        steps = fit(
            network,
            segmentation_loss(self._compile(network), weights, shared.focus),
            sampler.batch,
            lambda tensors, generator: augment(
                tensors[0], tensors[1], jitter=shared.jitter, deform=shared.deform, generator=generator
            ),
            budget=Budget(minutes=trial.labelled_minutes),
            rate=trial.settings.get("rate", rate),
            betas=(0.9, 0.999),
            warmup=0.1,
            seed=trial.seed,
            device=self._device,
            groups=depths,
            layer_decay=trial.settings.get("layer_decay", 0.75 if pretrained else 1.0),
            average=shared.average,
        )

        @torch.inference_mode()
        def tiles_of(tiles: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            with inference_autocast(self._device):
                logits = network.eval()(torch.from_numpy(tiles).to(self._device))
            probabilities: npt.NDArray[np.float32] = logits.float().softmax(1).cpu().numpy()
            return probabilities

        def predict(image: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
            source = ArraySource(image).normalised(normalisation)
            side = trial.tile
            whole = WholeImage(source.height)
            prediction = TiledPrediction(
                from_views(tiles_of, trial.views), source, tile=side, overlap=side // 4, batch=8, align=8, into=whole
            )
            for _ in prediction.run():
                pass
            return whole.values.argmax(0)

        return predict, {"steps": steps, "parameters": sum(parameter.numel() for parameter in network.parameters())}

    def _forest(self, trial: Trial, examples: list[LabelledImage]) -> Learned:
        from .forest import Forest

        start = time.perf_counter()
        table = trial.data.table(trial.paint)
        forest = Forest(len(table), trial.seed, **trial.chosen("forest"))
        targets = [to_targets(example.labels, table, trial.paint == "scribbles") for example in examples]
        forest.fit([example.record.read() for example in examples], targets)
        return forest.predict, {"fit_seconds": time.perf_counter() - start}

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self._compiled:
            return function
        torch.compiler.reset()  # compiled for another size before, it would now be compiled for any size
        compiled: Callable[..., Any] = torch.compile(function, dynamic=False)
        return compiled

    def _key(self, trial: Trial) -> str:
        """Return a folder name for what pretraining depends on; settings, device and code are in the digest at its end."""
        parts = (trial.method, trial.dataset, trial.preset, trial.tile, trial.pretrain_batch, trial.minutes, trial.seed)
        made = json.dumps([pretraining(trial), describe_machine(self._device), self._commit], sort_keys=True)
        return "-".join((*map(str, parts), hashlib.sha256(made.encode()).hexdigest()[:12]))

    def _whole(self, trial: Trial) -> Path:
        """Return the file that is there when a model is pretrained, in the folder of its run."""
        return self._work / self._key(trial) / (STEPS_FILE if trial.method == "affmae" else VIT_FILE)

    def _channels(self, examples: Sequence[LabelledImage]) -> int:
        return examples[0].record.channels


def _masking(config: ModelConfig) -> Callable[[tuple[Tensor, ...], torch.Generator], tuple[Tensor, ...]]:
    """Return what augments and masks a batch as our pretraining does with these settings."""

    def masked(tensors: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        images = augment(tensors[0], jitter=PRETRAIN_JITTER, generator=generator)[0]
        grid = config.grid(*images.shape[-2:])
        return images, *draw_mask(len(images), grid, config.mask_ratio, config.mask_kind, images.device, generator)

    return masked


def _steps(events: Iterable[Event]) -> int:
    """Let a job run and return its number of steps."""
    for event in events:
        if isinstance(event, Done):
            return event.step
    raise RuntimeError("the job ended without saying so")
