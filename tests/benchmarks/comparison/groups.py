"""Which lines of trials belong together: those of one table, of one curve, and those that say what more labels are worth."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from .datasets import DATASETS, Paint
from .lines import Line
from .trial import METHODS, Method, differing

NAMES = {
    "affmae": "AFFMAE, pretrained",
    "affmae-scratch": "AFFMAE, from scratch",
    "vit-mae": "ViT-MAE, pretrained",
    "vit-scratch": "ViT, from scratch",
    "unet": "U-Net (MONAI)",
    "forest": "random forest on filters",
}

DATA = ("dataset", "labels", "paint", "part")
"""What the forest has in common with a table: it knows neither presets nor minutes, so it stands in all of the same data."""

SETTING = (*DATA, "preset", "minutes", "finetune_minutes", "tile", "pretrain_batch", "batch", "device")
"""What lines of one table have in common."""

BUDGETS = tuple(name for name in SETTING if name != "minutes")
"""What lines of one table of patience have in common."""

ALIKE = {"NVIDIA H200": "NVIDIA H100 80GB HBM3"}
"""Cards whose trials stand in the tables of another one: they compute alike."""

BUDGET = tuple(name for name in SETTING if name not in ("labels", "paint"))
"""What lines of one table over labels have in common."""

SIDELESS = tuple(name for name in SETTING if name not in ("tile", "pretrain_batch", "batch"))
"""What lines have in common that differ in the side of their tiles; with it goes how many of them make a batch."""

SEVERAL = 3
"""Kinds and numbers of labels from which on such a table is worth its place."""

PARTS = ("test", "val", "train")
"""Parts of the split, in the order of tables."""

Variant = tuple[Method, str]
"""A method, and what differs from its defaults, as text."""

Given = tuple[Paint, int | None]
"""How labels were painted, and in how many images; None for all of them."""

Place = TypeVar("Place")
"""What scores are put over."""


def name_of(variant: Variant) -> str:
    """Return what a table calls a method with its settings."""
    method, changed = variant
    return NAMES[method] + (f" ({changed})" if changed else "")


def ordered(variants: Iterable[Variant]) -> list[Variant]:
    """Return variants in the order of tables."""
    return sorted(variants, key=lambda variant: (METHODS.index(variant[0]), variant[1]))


def patience(lines: Sequence[Line]) -> list[tuple[Line, dict[Variant, dict[float, list[float]]]]]:
    """Return, for each setting with several lengths of pretraining, that setting and mIoU in percent by variant and minutes."""
    found = []
    for setting, entries in grouped(_networks(lines), BUDGETS):
        scores = _scores(_with_beginnings(entries), lambda entry: float(entry["minutes"]))
        several = {variant: dict(sorted(by.items())) for variant, by in scores.items() if len(by) > 1}
        if several:
            devices = sorted({entry["machine"]["device"] for entry in entries})
            found.append(({**setting, "device": ", ".join(devices)}, several))
    return found


def by_labels(lines: Sequence[Line]) -> list[tuple[Line, dict[Variant, dict[Given, list[float]]]]]:
    """Return, for each budget with several kinds or numbers of labels, that budget and mIoU in percent by variant and labels.

    Settings that were only tried are left out, and the forest, which has no budget, stands in all.
    """
    plain = [entry for entry in lines if not differing(entry)]
    found = []
    for budget, entries in grouped(_networks(plain), BUDGET):
        if len({given_of(entry) for entry in entries}) < SEVERAL:
            continue
        forests = [entry for entry in plain if entry["method"] == "forest"]
        same = [forest for forest in forests if all(forest[name] == budget[name] for name in ("dataset", "part"))]
        found.append((budget, _scores([*entries, *same], given_of)))
    return found


def by_side(lines: Sequence[Line]) -> list[tuple[Line, dict[Variant, dict[int, list[float]]]]]:
    """Return, for each setting with tiles of several sides, that setting and mIoU in percent by variant and side."""
    found = []
    for setting, entries in grouped(_networks(lines), SIDELESS):
        scores = _scores([entry for entry in entries if not differing(entry)], lambda entry: int(entry["tile"]))
        if len({side for by in scores.values() for side in by}) > 1:
            found.append((setting, scores))
    return found


def _with_beginnings(lines: Sequence[Line]) -> list[Line]:
    """Return lines, and what was not pretrained once for every way to pretrain: all their curves begin there."""
    ways = {variant_of(entry): differing(entry) for entry in lines if entry["minutes"]}
    begun = [
        {**entry, "settings": {**entry["settings"], **way}}
        for entry in lines
        for (method, changed), way in ways.items()
        if not entry["minutes"] and variant_of(entry) == (method, "") and changed
        if all(name.startswith("pretrain") for name in way)
    ]
    return [*lines, *begun]


def _networks(lines: Sequence[Line]) -> list[Line]:
    return [entry for entry in lines if entry["method"] != "forest"]


def _scores(lines: Sequence[Line], place: Callable[[Line], Place]) -> dict[Variant, dict[Place, list[float]]]:
    scores: dict[Variant, dict[Place, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in lines:
        scores[variant_of(entry)][place(entry)].append(100 * entry["miou"])
    return {variant: dict(by) for variant, by in scores.items()}


def given_of(entry: Line) -> Given:
    """Return what a trial learned from."""
    return entry["paint"], entry["labels"]


def grouped(lines: Sequence[Line], names: Sequence[str]) -> list[tuple[Line, list[Line]]]:
    """Return what lines have in common, and the lines, for each value of it that occurs, in the order of tables."""
    groups: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for entry in lines:
        device = entry["machine"]["device"]
        flat = {**entry, "device": ALIKE.get(device, device)}
        groups[tuple(flat[name] for name in names)].append(entry)
    found = [(dict(zip(names, key, strict=True)), entries) for key, entries in groups.items()]
    return sorted(found, key=lambda one: place_of(one[0]))


def place_of(setting: Line) -> tuple[Any, ...]:
    """Return what tables are ordered by: data, test split first, dense before strokes, most time on labels, fewest images."""
    return (
        list(DATASETS).index(setting["dataset"]),
        PARTS.index(setting["part"]),
        setting.get("paint", ""),
        -setting.get("finetune_minutes", 0),
        setting.get("labels") or math.inf,
        setting.get("minutes", 0),
    )


def variant_of(entry: Line) -> Variant:
    """Return the method of a line, with what was set for it."""
    return entry["method"], words_of(differing(entry), " = ", ", ")


def words_of(settings: Line, equal: str, between: str) -> str:
    """Return settings as text that a command takes, in the order of their names."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":")) for name, value in settings.items()
    }
    return between.join(f"{name}{equal}{text}" for name, text in sorted(texts.items()))
