"""What a model is, what it learned from and how well: a model file's card read for people, without torch.

Records in a card's history are free JSON: other versions wrote less or more. What is not there is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from .model_header import ModelFileHeader, count_parameters, read_card
from .model_places import locate_model
from .words import CLASSES_FROM, HELD_OUT_WORDS, count, duration, thousands

_JOBS = {
    "pretrain": "Pretrained on {images} without labels",
    "finetune": "Trained on {images} with labels",
    "live": "Trained live on {images} with paint",
    "import-checkpoint": "Imported from a checkpoint of the paper",
}

_NAMES = 3
"""Names of images that are written out."""

T = TypeVar("T")


@dataclass(frozen=True)
class ScoreReport:
    """A score on labels that training did not see.

    Attributes
    ----------
    miou, iou
        Mean intersection over union, 0 to 1, and by class name.
    pixels, step
        On how many labelled pixels it was measured, after which step.
    how
        ``"images"``, ``"strokes"`` or ``"blocks"``: what was kept back.
    """

    miou: float
    iou: dict[str, float]
    pixels: int | None
    step: int | None
    how: str | None

    def in_words(self) -> str:
        """Say what the number is and where it comes from."""
        on = f"{thousands(self.pixels)} labelled pixels" if self.pixels is not None else "labels"
        how = f" ({HELD_OUT_WORDS[self.how]})" if self.how in HELD_OUT_WORDS else ""
        after = f" after step {thousands(self.step)}" if self.step is not None else ""
        return f"mIoU {self.miou:.2f} on {on} kept back from training{how}{after}"


@dataclass(frozen=True)
class TrainingReport:
    """One entry of a model's history.

    Attributes
    ----------
    title
        What was done, in one line.
    facts
        Names and values, in words.
    steps, losses
        The loss curve, empty if it was not kept.
    score
        The last score, if one was measured.
    hashes
        Fingerprints of the images that were read.
    channels
        Which of their channels those are of, counted from 0, or None for all.
    unit
        What ``steps`` counts: ``"step"``, or ``"round"`` in live mode.
    """

    job: str
    title: str
    facts: tuple[tuple[str, str], ...]
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    score: ScoreReport | None
    hashes: frozenset[str]
    channels: tuple[int, ...] | None = None
    unit: str = "step"


@dataclass(frozen=True)
class ModelReport:
    """A model file in words.

    Attributes
    ----------
    title
        What it is, in one line.
    facts
        Names and values, in words.
    trainings
        Its history, oldest first.
    """

    path: Path
    title: str
    facts: tuple[tuple[str, str], ...]
    trainings: tuple[TrainingReport, ...]

    @property
    def score(self) -> ScoreReport | None:
        """The score of the last training, or None if that measured none: an older one says nothing about these weights."""
        return self.trainings[-1].score if self.trainings else None


def report(path: str | Path) -> ModelReport:
    """Read a model file's card and put it into words.

    Raises
    ------
    ModelFileError
        As :func:`~napari_affmae.model_header.read_card`.
    """
    path = locate_model(path)
    header = read_card(path)
    trainings = tuple(_training(record) for record in header.card.history)
    return ModelReport(path, _title(header), _facts(header, count_parameters(path)), trainings)


def as_json(model: ModelReport, header: ModelFileHeader) -> dict[str, Any]:
    """Return the whole card for programs: what the file holds, nothing left out, and the score in force."""
    return {
        "model": str(model.path),
        "kind": header.kind,
        "num_classes": header.num_classes,
        "config": header.config.model_dump(mode="json"),
        "card": header.card.model_dump(mode="json"),
        "score": None if model.score is None else asdict(model.score),
    }


def _title(header: ModelFileHeader) -> str:
    if header.num_classes is None:
        return "Pretrained network, without classes: train it on paint or labels to segment"
    names = [info.name for info in header.card.classes]
    return f"Segmentation network, {header.num_classes} classes" + (f": {', '.join(names)}" if names else "")


def _facts(header: ModelFileHeader, parameters: int) -> tuple[tuple[str, str], ...]:
    card = header.card
    facts = [("network", f"{parameters / 1e6:.1f} million parameters, patches of {header.config.patch_size} pixels")]
    facts.append(("images", count(header.config.in_channels, "channel")))
    facts.append(("pixel size", "unknown" if card.pixel_size is None else card.pixel_size.in_words()))
    if card.tile is not None:
        facts.append(("tiles", f"{card.tile} × {card.tile} pixels"))
    if card.normalisation is not None:
        rows = zip(
            card.normalisation.low, card.normalisation.high, card.normalisation.mean, card.normalisation.std, strict=True
        )
        ranges = "; ".join(f"{low:.4g} to {high:.4g}, mean {mean:.4g} ± {std:.3g}" for low, high, mean, std in rows)
        facts.append(("intensity", ranges))
    return tuple(facts)


def _training(record: Mapping[str, Any]) -> TrainingReport:
    job = _get(record, str, "job") or "unknown"
    images = count(_get(record, int, "images") or 0, "image")
    title = _JOBS.get(job, f"{job.capitalize()}").format(images=images)
    steps, losses = _curve(record)
    hashes = frozenset(part for part in _get(record, list, "data", "images", "hashes") or () if isinstance(part, str))
    unit = _get(record, str, "curve", "unit") or "step"
    facts = tuple(_training_facts(record))
    return TrainingReport(job, title, facts, steps, losses, _score(record), hashes, _channels(record), unit)


def _training_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if source := _get(record, str, "source"):
        facts.append(("file", source))
    when = [(_get(record, str, "date") or "")[:16].replace("T", " ")]
    if (seconds := _number(record, "seconds")) is not None:
        when.append(f"took {duration(seconds)}")
    facts.append(("when", ", ".join(part for part in when if part) or "unknown"))
    if steps := _get(record, int, "steps"):
        batch = _get(record, int, "figures", "batch")
        facts.append(("steps", thousands(steps) + (f", {count(batch, 'tile')} each" if batch else "")))
    if rounds := _get(record, int, "figures", "rounds"):
        facts.append(("rounds", thousands(rounds)))
    if names := [name for name in _get(record, list, "names") or () if isinstance(name, str)]:
        rest = (_get(record, int, "images") or len(names)) - _NAMES
        facts.append(("images", ", ".join(names[:_NAMES]) + (f" and {thousands(rest)} more" if rest > 0 else "")))
    if channels := _channels(record):
        facts.append(("channels", f"{', '.join(map(str, channels))} (counted from 0)"))
    if digest := _get(record, str, "data", "images", "digest"):
        read, of = len(_get(record, list, "data", "images", "hashes") or ()), _get(record, int, "data", "images", "count")
        facts.append(
            ("hash", digest + (f" ({thousands(read)} of {thousands(of)} images were read)" if of and read < of else ""))
        )
    if digest := _get(record, str, "data", "labels", "digest"):
        facts.append(("labels", f"hash {digest}"))
    if painted := [pixels for pixels in _get(record, list, "figures", "painted_pixels") or () if isinstance(pixels, int)]:
        facts.append(("labelled", f"{thousands(sum(painted))} pixels"))
    if told := CLASSES_FROM.get(_get(record, str, "figures", "classes_from") or ""):
        facts.append(("classes from", told))
    if settings := _settings(record):
        facts.append(("settings", settings))
    versions = {"napari-affmae": _get(record, str, "version")} | dict(_get(record, dict, "versions") or {})
    if known := ", ".join(f"{name} {number}" for name, number in versions.items() if isinstance(number, str)):
        facts.append(("made with", known))
    return facts


def _channels(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the channels that were chosen, or None for all."""
    chosen = _get(record, list, "data", "channels") or []
    return tuple(chosen) if chosen and all(type(channel) is int and channel >= 0 for channel in chosen) else None


def _settings(record: Mapping[str, Any]) -> str:
    """Return the settings that people compare; all of them are in the JSON."""
    words = {"learning_rate": "learning rate", "tile": "tile", "seed": "seed", "layer_decay": "layer decay"}
    said = ((word, _number(record, "settings", name)) for name, word in words.items())
    return ", ".join(f"{word} {value:g}" for word, value in said if value is not None)


def _curve(record: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    steps, losses = _get(record, list, "curve", "steps") or [], _get(record, list, "curve", "losses") or []
    pairs = [(step, loss) for step, loss in zip(steps, losses, strict=False) if _is_number(step) and _is_number(loss)]
    return tuple(int(step) for step, _ in pairs), tuple(float(loss) for _, loss in pairs)


def _score(record: Mapping[str, Any]) -> ScoreReport | None:
    miou = _number(record, "figures", "held_out_miou")
    if miou is None:
        return None
    each = _get(record, dict, "figures", "held_out_iou") or {}
    return ScoreReport(
        miou,
        {str(name): float(value) for name, value in each.items() if _is_number(value)},
        _get(record, int, "figures", "held_out_pixels"),
        _get(record, int, "figures", "held_out_step"),
        _get(record, str, "figures", "held_out"),
    )


def _get(record: Mapping[str, Any], kind: type[T], *keys: str) -> T | None:
    """Return what lies at a path of keys, if it is of a kind."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, kind) and not (kind is int and isinstance(value, bool)) else None


def _number(record: Mapping[str, Any], *keys: str) -> float | None:
    value = _get(record, object, *keys)
    return float(value) if isinstance(value, int | float) and _is_number(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
