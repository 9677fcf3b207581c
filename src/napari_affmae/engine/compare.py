"""Did pretraining help? The same few labels, learned by the pretrained network and by a fresh one, and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..card import ClassInfo
from ..config import FinetuneConfig
from ..control import JobControl
from ..data.held_out import keep_back
from ..data.labels import LabelledImage, class_table
from ..errors import LabelError
from ..events import Done, Event, Notice, PartBegun, Progress, Score
from ..model.mae import MaskedAutoencoder
from ..model.model_file import load_model
from ..model.segmenter import Segmenter
from ..words import HELD_OUT_WORDS, thousands
from .device import seeded
from .finetune import KNOWS_CLASSES, finetune, labelled_images

CLEAR, CLEAR_ON_STROKES = 0.05, 0.08
"""Least difference in mIoU that is called one, in general and where strokes were kept back.

Seeds alone make differences. Of pairs of seeds of one method, with the same settings and labels, 19 of 102 are 0.02 or more
apart where all pixels are labelled, 6 are 0.03, 2 are 0.05 and one is 0.08; with strokes it is 15 of 24, 9, 6 and none. Half of
these would be called a help. ``python tests/benchmarks/seed_noise.py docs/results.jsonl`` counts them; they are scores of whole
test images, and what is kept back here is less, so that differences are rather larger.
"""


@dataclass(frozen=True)
class Comparison:
    """Scores of the two trainings on the labels that both were not shown.

    Attributes
    ----------
    pretrained, scratch
        The last held-out score of either.
    held_out
        What was kept back: ``"images"``, ``"strokes"`` or ``"blocks"``.
    """

    pretrained: Score
    scratch: Score
    held_out: str

    @property
    def gain(self) -> float:
        """Return by how much the pretrained network's mIoU is higher; negative where it is lower."""
        return self.pretrained.miou - self.scratch.miou

    @property
    def verdict(self) -> str:
        """Say what came out, and how sure that is."""
        clear = CLEAR_ON_STROKES if self.held_out == "strokes" else CLEAR
        both = (
            f"mIoU {self.pretrained.miou:.2f} from the pretrained network, {self.scratch.miou:.2f} from scratch, "
            f"on {thousands(self.pretrained.pixels)} labelled pixels kept back from both "
            f"({HELD_OUT_WORDS[self.held_out]}; one training each, and seeds alone differ by up to about {clear:g})"
        )
        if self.gain >= clear:
            return f"Pretraining helped: {both}."
        if self.gain <= -clear:
            return f"Pretraining did not help here, it did worse: {both}. Pretrain for longer, or on more images like these."
        return f"No clear difference: {both}. Pretrain for longer, or compare with less paint."


def compare(
    model: MaskedAutoencoder | Segmenter | Path | str,
    examples: Sequence[LabelledImage],
    folder: Path | str,
    config: FinetuneConfig,
    *,
    classes: Sequence[ClassInfo] | None = None,
    sparse: bool = False,
    control: JobControl | None = None,
    threads: int | None = None,
) -> Iterator[Event]:
    """Train a pretrained network and a fresh one of the same shape on the same labels, and compare them.

    Both have the same budget, the same tiles in the same order, and the same labels kept back for the score.

    Parameters
    ----------
    model
        The pretrained network, or its file or run folder.
    folder
        Where the two runs go, ``pretrained`` and ``scratch``; must be empty or new.
    examples, config, classes, sparse, control, threads
        As in :func:`~napari_affmae.engine.finetune.finetune`.

    Yields
    ------
    Event
        Those of both trainings, the pretrained network's first, except for their ``Done``; then a ``Done`` with a
        :class:`Comparison` as its ``result``, or None if it was stopped.

    Raises
    ------
    LabelError
        If there is too little paint to keep some of it back, or as in finetuning.
    AffmaeError
        As in finetuning.
    """
    control = control or JobControl()
    source = load_model(model) if isinstance(model, str | Path) else model
    if source.card.classes:
        yield Notice("finetune", KNOWS_CLASSES)
    labelled, _ = labelled_images(examples, sparse)
    table = classes or class_table(labelled, sparse=sparse)
    *_, held_out = keep_back(labelled, table, config.held_out, sparse=sparse, seed=config.seed)
    if held_out == "none":  # said now, and not when both have been trained
        raise LabelError("there is too little paint to keep some of it back for a score: paint a little more of every class")
    starts = {"pretrained": (_without_heads(source), config), "scratch": (_fresh(source, config.seed), _evenly(config))}
    scores: dict[str, Score] = {}
    done = None
    for place, (name, (start, settings)) in enumerate(starts.items()):
        which = "the pretrained network" if name == "pretrained" else "one from scratch"
        reached = place / len(starts)
        yield PartBegun("finetune", f"training {which}", reached)
        run = Path(folder) / name
        for event in finetune(start, examples, run, settings, classes=classes, sparse=sparse, control=control, threads=threads):
            if isinstance(event, Done):
                done = event
            elif isinstance(event, Progress):
                left = event.eta_seconds
                if left is not None:
                    left += (len(starts) - 1 - place) * (event.elapsed_seconds + left)  # the other one will take as long
                reached = (place + event.fraction) / len(starts)
                yield replace(event, fraction=reached, eta_seconds=left)
            elif isinstance(event, PartBegun):
                # A readout is fitted behind the steps, and counts from 0 by itself.
                yield replace(event, what=f"{event.what} {event.fraction:.0%}", fraction=reached)
            else:
                yield event
            if isinstance(event, Score):
                scores[name] = event
        if done is None or (done.stopped and control.stop_requested):
            yield Done("finetune", done.step if done is not None else 0, None, stopped=True)
            return
    result = Comparison(scores["pretrained"], scores["scratch"], held_out)
    yield Done("finetune", done.step if done is not None else 0, None, result=result, summary=as_figures(result))


def as_figures(result: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON-able figures."""
    return {
        "miou": result.pretrained.miou,
        "iou": dict(result.pretrained.iou),
        "scratch": {"miou": result.scratch.miou, "iou": dict(result.scratch.iou)},
        "gain": result.gain,
        "held_out": result.held_out,
        "pixels": result.pretrained.pixels,
        "verdict": result.verdict,
    }


def _without_heads(source: MaskedAutoencoder | Segmenter) -> MaskedAutoencoder:
    """Return the network as pretraining leaves it: heads are new in finetuning anyway."""
    if isinstance(source, MaskedAutoencoder):
        return source
    network = MaskedAutoencoder(source.config)
    network.load_state_dict({n: v for n, v in source.state_dict().items() if not n.startswith("heads.")}, strict=False)
    network.card = source.card.replace(classes=())
    return network


def _fresh(source: MaskedAutoencoder | Segmenter, seed: int) -> MaskedAutoencoder:
    """Return a network of the same shape that has seen nothing; statistics of the images and the tile are the same."""
    with seeded(torch.device("cpu"), seed, 0):
        network = MaskedAutoencoder(source.config)
    network.card = source.card.replace(classes=())
    return network


def _evenly(config: FinetuneConfig) -> FinetuneConfig:
    """Return the settings that training from scratch takes: nothing is there to be kept, so all depths learn alike."""
    return config.replace(layer_decay=1.0)
