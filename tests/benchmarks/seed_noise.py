"""How far scores lie apart that differ in nothing but their seed: what a difference between two methods must exceed.

    python tests/benchmarks/seed_noise.py docs/results.jsonl

Takes the trials of our network, pretrained and from scratch, that were made with several seeds, and counts pairs of seeds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from comparison.datasets import Paint
from comparison.groups import SETTING, grouped, variant_of
from comparison.lines import Line, read_lines

THRESHOLDS = (0.02, 0.03, 0.05, 0.08)
OURS = ("affmae", "affmae-scratch")


def apart(lines: Sequence[Line]) -> dict[Paint, list[float]]:
    """Return the differences in mIoU of all pairs of seeds of one method with the same settings and labels."""
    found: dict[Paint, list[float]] = {"dense": [], "scribbles": []}
    for setting, entries in grouped([entry for entry in lines if entry["method"] in OURS], SETTING):
        scores = defaultdict(list)
        for entry in entries:
            scores[variant_of(entry)].append(entry["miou"])
        for by_seed in scores.values():
            found[setting["paint"]] += [abs(one - other) for one, other in itertools.combinations(by_seed, 2)]
    return found


def main() -> int:
    """Print a line for dense labels and one for strokes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path, nargs="+", help="files of quality.py")
    given = parser.parse_args()
    print(f"{'labels':>10}{'pairs':>7}" + "".join(f"{f'≥ {threshold:g}':>9}" for threshold in THRESHOLDS))
    for paint, differences in apart([line for path in given.lines for line in read_lines(path)]).items():
        counts = (sum(difference >= threshold for difference in differences) for threshold in THRESHOLDS)
        print(f"{paint:>10}{len(differences):>7}" + "".join(f"{count:>9}" for count in counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
