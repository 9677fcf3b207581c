"""Results as Markdown: tables of methods, what patience buys, and the command that repeats each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from .datasets import Paint
from .groups import DATA, SETTING, Variant, by_labels, grouped, name_of, ordered, patience, variant_of, words_of
from .lines import Line
from .trial import METHODS, Method, Trial, differing

USUAL = Trial("affmae")
"""What a heading need not say."""

HEADER = """# Results

Written by `python tests/benchmarks/quality.py --report FILES > docs/results.md`; do not edit. Every trial of these tables
stands as a JSON line in FILES, and the commands under each table make its lines again: with today's code, so that what became
a default since is not named; each line in FILES names its settings, card and commit. Of trials to choose settings by, those of
pretraining have lines, most others (of finetuning, the forest, `tiny` and the U-Net) are only told, below or in measured.md.

How trials are made: images and their split are fixed; no image of the validation or test split, labelled or not, is ever
learned from. All methods get the same labels, tiles, augmentation and minutes: what a pretrained network spends on
unlabelled images, the others train on the labelled ones longer; only the forest has no clock, and runs on a CPU. Kernels
are built and networks compiled off the clock. mIoU is the mean over the classes of the intersection over union in percent,
from one confusion matrix pooled over all images; *outline F1* is that of the outline of the thin class (membranes) at 2
pixels. Where there are several seeds: mean ± standard deviation. Trials on an H200 stand in the tables of the H100, both
named: they compute alike, and with its faster memory the one makes 10 to 15 % more steps in the same minutes.
"""


def document(lines: Sequence[Line], notes: str = "") -> str:
    """Return everything: tables, what labels are worth first; what patience buys; and the notes, as they are."""
    parts = [HEADER.strip(), *_by_labels(lines), *_tables(lines), *_patience(lines)]
    return "\n\n".join([*parts, notes.strip()] if notes else parts)


PAINTS: dict[Paint, str] = {"dense": "dense", "scribbles": "strokes"}


def _by_labels(lines: Sequence[Line]) -> list[str]:
    """Return a table for each budget: a method in each row, a kind and number of labels in each column."""
    parts = []
    for budget, scores in by_labels(lines):
        found = {given for by in scores.values() for given in by}
        givens = sorted(found, key=lambda given: (given[0], given[1] or math.inf))
        rows = [["method", *(f"{PAINTS[paint]}, {count or 'all'}" for paint, count in givens)], ["---"] * (1 + len(givens))]
        for variant in ordered(scores):
            cells = (scores[variant].get(given, []) for given in givens)
            rows.append([name_of(variant), *(f"{_spread(cell)} [{len(cell)}]" if cell else "–" for cell in cells)])
        title = f"## What labels are worth: {budget['dataset']}{_length(budget)}{_apart(budget)}"
        told = (
            "mIoU from dense labels or from strokes over 1 % of the pixels, in so many labelled images; in brackets the number "
            f"of seeds. Preset {budget['preset']}, tiles of {budget['tile']}², {budget['part']} split; each column is a table "
            "below, with its machines, commits and command."
        )
        parts.append("\n".join((title, "", told, "", *_rows(rows))))
    return parts


def _tables(lines: Sequence[Line]) -> list[str]:
    forests = [entry for entry in lines if entry["method"] == "forest"]
    tables, used = [], set()
    for setting, entries in grouped([entry for entry in lines if entry["method"] != "forest"], SETTING):
        same = [forest for forest in forests if all(forest[name] == setting[name] for name in DATA)]
        used |= {id(forest) for forest in same}
        tables.append(_table(setting, [*entries, *same]))
    alone = [forest for forest in forests if id(forest) not in used]
    return tables + [_table(setting, entries) for setting, entries in grouped(alone, DATA)]


def _table(setting: Line, entries: Sequence[Line]) -> str:
    names = list(entries[0]["iou"])
    thin = any(entry["boundary_f1"] is not None for entry in entries)
    head = ["method", "seeds", "mIoU", *names, *(["outline F1"] if thin else []), "steps"]
    rows = [head, ["---"] * len(head)]
    by_variant: dict[Variant, list[Line]] = defaultdict(list)
    for entry in entries:
        by_variant[variant_of(entry)].append(entry)
    for variant in ordered(by_variant):
        group = by_variant[variant]
        rows.append(
            [
                name_of(variant) if setting.get("minutes", 1) else name_of(variant).replace("pretrained", "not pretrained"),
                ", ".join(str(entry["seed"]) for entry in sorted(group, key=lambda entry: entry["seed"])),
                _spread(100 * entry["miou"] for entry in group),
                *(f"{np.mean([100 * entry['iou'].get(name, 0) for entry in group]):.1f}" for name in names),
                *([_spread(100 * entry["boundary_f1"] for entry in group)] if thin else []),
                _steps(group),
            ]
        )
    title = f"## {setting['dataset']}, {_labels(setting)}, {setting['paint']}{_length(setting)}{_apart(setting)}"
    return "\n".join((title, "", _facts(setting, entries), "", *_rows(rows), "", _command(setting, entries)))


def _patience(lines: Sequence[Line]) -> list[str]:
    parts = []
    for setting, scores in patience(lines):
        minutes = sorted({value for by in scores.values() for value in by})
        rows = [["method", *(f"{value:g} min" for value in minutes)], ["---"] * (1 + len(minutes))]
        for variant in ordered(scores):
            by = scores[variant]
            rows.append([name_of(variant), *(f"{_spread(by[m])} [{len(by[m])}]" if m in by else "–" for m in minutes)])
        parts.append(
            "\n".join(
                (
                    f"## What patience buys: {setting['dataset']}, {_labels(setting)}, {setting['paint']}, "
                    f"{setting['finetune_minutes']:g} min on labels",
                    "",
                    f"mIoU after so many minutes of pretraining and {setting['finetune_minutes']:g} of finetuning, in brackets "
                    "the number of seeds; what is not pretrained spends all of them on the labels. "
                    f"Preset {setting['preset']}, {setting['part']} split, {setting['device']}.",
                    "",
                    *_rows(rows),
                )
            )
        )
    if parts:
        parts.append("![mIoU over minutes of pretraining](figures/patience.png)")
    return parts


def _facts(setting: Line, entries: Sequence[Line]) -> str:
    where = "; ".join(sorted({f"{e['machine']['device']}, torch {e['machine']['torch']}" for e in entries}))
    commits = ", ".join(sorted({entry["commit"] for entry in entries}))
    budget = ""
    if "minutes" in setting:
        budget = (
            f"{setting['minutes']:g} min of pretraining and {setting['finetune_minutes']:g} min of finetuning, preset "
            f"{setting['preset']}, tiles of {setting['tile']}², batches of {setting['pretrain_batch']} and {setting['batch']}; "
        )
    return f"{budget}scored on the {setting['part']} split; {where}; commit {commits}."


def _command(setting: Line, entries: Sequence[Line]) -> str:
    """Return the commands that make the lines of a table and no others: one for each choice of settings and seeds."""
    seeds: dict[tuple[str, Method], set[int]] = defaultdict(set)
    for entry in entries:
        seeds[words_of(differing(entry), "=", " "), entry["method"]].add(entry["seed"])
    alike: dict[tuple[str, tuple[int, ...]], list[Method]] = defaultdict(list)
    for (chosen, method), used in sorted(seeds.items(), key=lambda found: (found[0][0], METHODS.index(found[0][1]))):
        alike[chosen, tuple(sorted(used))].append(method)
    words = ["python tests/benchmarks/quality.py --root DATA", f"--dataset {setting['dataset']}"]
    words += [f"--labels {'all' if setting['labels'] is None else setting['labels']}", f"--paint {setting['paint']}"]
    words += [f"--part {setting['part']}"]
    if "minutes" in setting:
        words += [f"--preset {setting['preset']} --minutes {setting['minutes']:g}"]
        words += [f"--finetune-minutes {setting['finetune_minutes']:g} --tile {setting['tile']}"]
        words += [f"--pretrain-batch {setting['pretrain_batch']} --batch {setting['batch']}"]
        words += ["--device cpu"] if setting["device"].startswith("CPU") else []
    lines = []
    for (chosen, used), methods in alike.items():
        tried = [f"--set {chosen}"] if chosen else []
        lines.append(" ".join([*words, f"--method {' '.join(methods)}", f"--seed {' '.join(map(str, used))}", *tried]))
    return "\n".join(["```", *lines, "```"])


def _labels(setting: Line) -> str:
    if setting["labels"] is None:
        return "all labelled images"
    return f"{setting['labels']} labelled image{'s' if setting['labels'] != 1 else ''}"


def _length(setting: Line) -> str:
    return f", {setting['minutes']:g} + {setting['finetune_minutes']:g} min" if "minutes" in setting else ""


def _apart(setting: Line) -> str:
    """Return what a heading says of a setting that is not the usual one."""
    words = "" if setting.get("tile", USUAL.tile) == USUAL.tile else f", tiles of {setting['tile']}²"
    return words + ("" if setting["part"] == USUAL.part else f", {setting['part']} split")


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in rows]


def _spread(values: Iterable[float]) -> str:
    """Return the mean and the standard deviation over seeds."""
    found = list(values)
    return f"{np.mean(found):.1f}" + (f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else "")


def _steps(group: Sequence[Line]) -> str:
    parts = [f"{np.mean([entry[name] for entry in group]):.0f}" for name in ("pretraining_steps", "steps") if name in group[0]]
    return " + ".join(parts) or "–"
