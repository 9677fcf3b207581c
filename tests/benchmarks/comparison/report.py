"""Tables of trials as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .trial import METHODS

Line = dict[str, Any]

NAMES = {
    "affmae": "AFFMAE, pretrained",
    "affmae-scratch": "AFFMAE, from scratch",
    "vit-mae": "ViT-MAE, pretrained",
    "vit-scratch": "ViT, from scratch",
    "unet": "U-Net (MONAI)",
    "forest": "random forest on filters",
}

SETTING = (
    "dataset", "labels", "paint", "preset", "minutes", "finetune_minutes", "tile", "pretrain_batch", "batch", "part", "device"
)  # fmt: skip
"""What lines of one table have in common."""


def report(lines: Sequence[Line]) -> str:
    """Return all tables, those of the same setting in one."""
    tables: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for entry in lines:
        flat = {**entry, "device": entry["machine"]["device"]}
        tables[tuple(flat[name] for name in SETTING)].append(entry)
    return "\n\n".join(_table(dict(zip(SETTING, setting, strict=True)), entries) for setting, entries in tables.items())


def _table(setting: dict[str, Any], entries: Sequence[Line]) -> str:
    labels = "all labelled images" if setting["labels"] is None else f"{setting['labels']} labelled image(s)"
    title = f"### {setting['dataset']}, {labels}, {setting['paint']}"
    commits = ", ".join(sorted({entry["commit"] for entry in entries}))
    facts = (
        f"{setting['minutes']:g} min of pretraining and {setting['finetune_minutes']:g} min of finetuning, preset "
        f"{setting['preset']}, tiles of {setting['tile']}², batches of {setting['pretrain_batch']} and {setting['batch']}, "
        f"scored on the {setting['part']} split; {setting['device']}, torch {entries[0]['machine']['torch']}, commit {commits}."
    )
    names = list(entries[0]["iou"])
    thin = any(entry["boundary_f1"] is not None for entry in entries)
    head = ["method", "seeds", "mIoU", *names, *(["outline F1"] if thin else []), "steps"]
    rows = [head, ["---"] * len(head)]
    by_method: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for entry in entries:
        by_method[entry["method"], _changed(entry)].append(entry)
    for (method, changed), group in sorted(by_method.items(), key=lambda item: (METHODS.index(item[0][0]), item[0][1])):
        rows.append(
            [
                NAMES[method] + (f" ({changed})" if changed else ""),
                str(len(group)),
                _spread(100 * entry["miou"] for entry in group),
                *(f"{np.mean([100 * entry['iou'].get(name, 0) for entry in group]):.1f}" for name in names),
                *([_spread(100 * entry["boundary_f1"] for entry in group)] if thin else []),
                _steps(group),
            ]
        )
    return "\n".join((title, "", facts, "", *("| " + " | ".join(row) + " |" for row in rows)))


def _changed(entry: Line) -> str:
    return ", ".join(f"{name} = {value}" for name, value in sorted(entry["settings"].items()))


def _spread(values: Iterable[float]) -> str:
    """Return the mean and the standard deviation over seeds."""
    found = list(values)
    return f"{np.mean(found):.1f}" + (f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else "")


def _steps(group: Sequence[Line]) -> str:
    parts = [f"{np.mean([entry[name] for entry in group]):.0f}" for name in ("pretraining_steps", "steps") if name in group[0]]
    return " + ".join(parts) or "–"
