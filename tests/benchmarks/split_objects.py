"""How well touching objects are told apart by shape alone, given a perfect foreground.

    python tests/benchmarks/split_objects.py LABELS [--depth 0 0.5 1 2 3]

LABELS is a folder of instance labels. Each image is turned into one foreground, numbered again by ``separate``, and compared:
an object is found if one of the numbered ones overlaps it by an IoU above one half.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.io import imread
from skimage.segmentation import relabel_sequential

from napari_affmae.engine.refine import separate


def found(truth: npt.NDArray[np.int64], numbers: npt.NDArray[np.int32]) -> tuple[int, int, int]:
    """Return how many objects are found, how many there are after splitting, and how many there should be."""
    most, made = int(truth.max()), int(numbers.max())
    if not most:
        return 0, made, 0
    both = np.bincount((truth * (made + 1) + numbers).ravel(), minlength=(most + 1) * (made + 1)).reshape(most + 1, made + 1)
    either = both.sum(axis=1)[1:, None] + both.sum(axis=0)[None, 1:] - both[1:, 1:]
    return int(np.count_nonzero(both[1:, 1:] > 0.5 * either)), made, most


def main() -> int:
    """Print a line per depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--depth", type=float, nargs="+", default=[0, 0.5, 1, 2, 3])
    given = parser.parse_args()
    truths = [relabel_sequential(imread(path).astype(np.int64))[0] for path in sorted(given.labels.iterdir())]
    print(f"{'depth':>6}{'found':>8}{'made':>8}{'true':>8}{'F1':>8}")
    for depth in given.depth:
        right, made, most = np.sum([found(truth, separate(truth > 0, None, depth)) for truth in truths], axis=0)
        print(f"{depth:6g}{right:8}{made:8}{most:8}{2 * right / (made + most):8.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
