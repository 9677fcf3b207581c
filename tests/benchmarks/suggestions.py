"""How wrong the prediction is at suggested places, at the most uncertain ones, at random ones, and everywhere.

A place is worth a stroke if the network is wrong there. A network predicts each image, places are suggested as the dock would, and
the pixels in them are compared with dense labels. Prints JSON: the share of wrong pixels, and how many classes the places of an
image hold between them.

Example
-------
``python tests/benchmarks/suggestions.py fine images/ labels/ --paint paint/ --features pre --files split.csv:train``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_affmae.cli.labelled import painted_in
from napari_affmae.data.label_images import LabelledImage, pair_labels
from napari_affmae.data.predicted_image import PredictedImage
from napari_affmae.engine.places import painted_cells, peaks
from napari_affmae.engine.segment import load_segmenter, segment
from napari_affmae.engine.suggest import CELL_PATCHES, Suggestions, suggest
from napari_affmae.engine.uncertainty import cell_means, uncertainty
from napari_affmae.events import Done


def places(features: Any, image: PredictedImage, count: int, device: Any) -> list[tuple[int, int]]:
    """Return row and column of the suggested places of one image."""
    for event in suggest(features, [image], count=count, device=device):
        if isinstance(event, Done) and isinstance(event.result, Suggestions):
            return [(place.row, place.column) for place in event.result.places]
    return []


def random_places(paint: np.ndarray, cell: int, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return the middles of cells without paint."""
    free = np.argwhere(~painted_cells(paint, cell)[: paint.shape[0] // cell, : paint.shape[1] // cell])
    chosen = free[rng.permutation(len(free))[:count]]
    return [(int(row) * cell + cell // 2, int(column) * cell + cell // 2) for row, column in chosen]


def measure(example: LabelledImage, paint: np.ndarray, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return wrong and all pixels, and the classes, for each way to choose places in one image."""
    model, features, count = arguments.model, arguments.features or arguments.model, arguments.count
    network = load_segmenter(model)
    result = segment(network, example.record.read(), device=arguments.device)
    truth = example.labels + arguments.shift
    wrong = result.labels != truth
    values = uncertainty(result.probabilities)
    cell = CELL_PATCHES * network.config.patch_size
    cells = np.where(painted_cells(paint, cell), np.nan, cell_means(values, cell))
    rng = np.random.default_rng(arguments.seed)
    chosen = {
        "suggested": places(features, PredictedImage(example.record, values, paint), count, arguments.device),
        "most uncertain": [(row * cell + cell // 2, column * cell + cell // 2) for row, column in peaks(cells, count)],
        "random": random_places(paint, cell, count * 20, rng),
    }
    found: dict[str, Any] = {"everywhere": (int(wrong.sum()), wrong.size, np.unique(truth).tolist())}
    for name, spots in chosen.items():
        parts = [np.s_[row - cell // 2 : row + cell // 2, column - cell // 2 : column + cell // 2] for row, column in spots]
        pixels = np.concatenate([wrong[part].ravel() for part in parts]) if parts else np.zeros(0, bool)
        # Of the many random places, as many as the others have.
        few = parts[:count]
        classes = np.unique(np.concatenate([truth[part].ravel() for part in few])).tolist() if few else []
        found[name] = int(pixels.sum()), pixels.size, classes
    return found


def main() -> None:
    """Measure all images and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path, help="dense labels")
    parser.add_argument("--paint", type=Path, help="what was painted for the network")
    parser.add_argument("--features", type=Path, help="pretrained network")
    parser.add_argument("--files", help='names, or "split.csv:train"')
    parser.add_argument("--shift", type=int, default=0, help="added to the labels' ids to get the network's")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    painted = {} if arguments.paint is None else painted_in(arguments.images, arguments.paint, None)
    sums: dict[str, list[Any]] = {}
    examples, _ = pair_labels(arguments.images, arguments.labels, arguments.files)
    for example in examples:
        paint = painted.get(example.name, np.zeros(example.labels.shape, np.uint8))
        for name, (wrong, size, classes) in measure(example, paint, arguments).items():
            total = sums.setdefault(name, [0, 0, 0])
            total[0] += wrong
            total[1] += size
            total[2] += len(classes)
    figures = {
        name: {"wrong": round(wrong / max(size, 1), 3), "classes": round(classes / len(examples), 2)}
        for name, (wrong, size, classes) in sums.items()
    }
    print(json.dumps({"images": len(examples), "places": arguments.count, **figures}, indent=2))


if __name__ == "__main__":
    main()
