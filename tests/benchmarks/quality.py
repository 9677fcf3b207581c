"""Compare methods of segmentation at the same labels, tiles, augmentation and minutes; figures add up in a file of JSON lines.

    python tests/benchmarks/quality.py --root DATA --out results.jsonl [--method affmae vit-mae ...] [--seed 0 1 2] ...
    python tests/benchmarks/quality.py --report results.jsonl > docs/results.md

A trial that stands in the file already is not repeated, so that a long list can be worked through in several goes; its line is
written as soon as it is known, and a trial that fails is told and left out. Networks that are pretrained spend the minutes of
pretraining on unlabelled images, all others spend them on the labelled ones, too. Several cards share a list like this:

    for card in 0 1; do CUDA_VISIBLE_DEVICES=$card python tests/benchmarks/quality.py --share $card/2 ... & done; wait

Needs monai and scikit-learn for two of the methods (``pip install monai scikit-learn``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import torch
from comparison.datasets import DATASETS, data_folder, labelled
from comparison.lines import append_line, read_lines
from comparison.methods import Methods
from comparison.report import document
from comparison.scores import score
from comparison.trial import METHODS, Trial, commit_of_code, identity, line

from napari_affmae.engine.device import resolve_device
from napari_affmae.errors import AffmaeError

ALL = "all"
NOTES = Path(__file__).parents[2] / "docs" / "what-did-not-help.md"


def main() -> int:
    """Run the trials that are not in the file yet, or print the report of files; 1 if a trial failed."""
    given = _parser().parse_args()
    if given.report:
        lines = [line for path in given.report for line in read_lines(path)]
        print(document(lines, given.notes.read_text(encoding="utf-8") if given.notes.is_file() else ""))
        return 0
    device = resolve_device(given.device)
    root = data_folder(given.root)
    given.work.mkdir(parents=True, exist_ok=True)
    commit = given.commit or commit_of_code()
    methods = Methods(root, given.work, device, compiled=not given.eager, commit=commit)
    known = {identity(known) for known in read_lines(given.out)}
    start = time.perf_counter()
    failed = 0
    for trial in _trials(given):
        if identity(line(trial, {}, device, commit)) in known:
            continue
        if given.until and (time.perf_counter() - start) / 60 + methods.expected_minutes(trial) > given.until:
            print("the rest is left for another go", file=sys.stderr)
            break
        labels = trial.labels or ALL
        told = f"{trial.method}, {trial.dataset}, {trial.minutes:g} min, {labels} labelled, seed {trial.seed}"
        told += "".join(f", {name}={value}" for name, value in trial.settings.items())
        print(told, file=sys.stderr, flush=True)
        try:
            figures = run(methods, trial, root, device)
        except (AffmaeError, OSError, RuntimeError, ValueError, ImportError):  # one method must not cost the others their turn
            traceback.print_exc()
            print(f"failed: {told}", file=sys.stderr, flush=True)
            failed += 1
            continue
        append_line(given.out, line(trial, figures, device, commit))
        print(json.dumps(figures), file=sys.stderr, flush=True)
    return int(failed > 0)


def run(methods: Methods, trial: Trial, root: Path, device: torch.device) -> dict[str, Any]:
    """Train and score; figures of one trial."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    predict, figures = methods.learn(trial)
    learned = time.perf_counter()
    images = labelled(root, trial.data, trial.part)
    scores = score(
        [predict(image.record.read()) for image in images],
        [image.labels for image in images],
        trial.data.table("dense"),
        trial.data.thin,
    )
    figures |= {"learn_seconds": learned - start, "predict_seconds": time.perf_counter() - learned}
    if device.type == "cuda":
        figures["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return {**figures, **vars(scores)}


def _trials(given: argparse.Namespace) -> Iterator[Trial]:
    variants = [dict(_setting(text) for text in words) for words in given.set or [[]]]
    share, of = given.share
    # All methods of a seed before the next seed: whatever ends early is a fair comparison. What shares a pretrained model
    # stays on one card, so that no two processes make the same one.
    pretrained = itertools.product(given.dataset, given.minutes, given.seed, given.method)
    mine = (key for number, key in enumerate(pretrained) if number % of == share)
    for (dataset, minutes, seed, method), labels, paint, settings in itertools.product(
        mine, given.labels, given.paint, variants
    ):
        yield Trial(
            method=method,
            dataset=dataset,
            labels=None if labels == ALL else int(labels),
            paint=paint,
            seed=seed,
            preset=given.preset,
            minutes=minutes,
            finetune_minutes=given.finetune_minutes,
            tile=given.tile,
            pretrain_batch=given.pretrain_batch,
            batch=given.batch,
            part=given.part,
            settings=settings,
        )


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _share(text: str) -> tuple[int, int]:
    share, _, of = text.partition("/")
    if not (share.isdigit() and of.isdigit() and int(share) < int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share: 0/2 is the first of two")
    return int(share), int(of)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of the data sets [AFFMAE_DATA]")
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"), help="file that lines are added to")
    parser.add_argument("--work", type=Path, default=Path("quality-runs"), help="folder for runs; pretrained models are reused")
    parser.add_argument("--report", type=Path, nargs="+", help="print the tables of these files, and do nothing else")
    parser.add_argument("--notes", type=Path, default=NOTES, help="text that the report ends with")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, default=["em_vnc_sstem"])
    parser.add_argument("--labels", nargs="+", default=["4"], help="numbers of labelled images, or all")
    parser.add_argument("--paint", nargs="+", choices=("dense", "scribbles"), default=["dense"])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0], help="of pretraining")
    parser.add_argument("--finetune-minutes", type=float, default=0.5)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--pretrain-batch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--part", choices=("test", "val"), default="test", help="val to choose settings by")
    parser.add_argument(
        "--set",
        nargs="*",
        action="append",
        metavar="NAME=VALUE",
        help="settings to try, for example finetune.learning_rate=5e-4; each --set is a variant, an empty one the defaults",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--eager", action="store_true", help="do not compile the other networks")
    parser.add_argument("--until", type=float, help="minutes; no trial is begun that would train for longer than that")
    parser.add_argument("--share", type=_share, default=(0, 1), metavar="K/N", help="take every N-th trial, from the K-th on")
    parser.add_argument("--commit", help="of the code, where git cannot say")
    return parser


if __name__ == "__main__":
    sys.exit(main())
