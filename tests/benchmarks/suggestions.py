"""Are suggested places worth a stroke? How wrong the prediction is there, and what a network learns from paint there.

A network predicts images, and places are chosen in all of them together: as the dock suggests them, the most uncertain ones,
and random ones. Prints JSON: the share of wrong pixels in the places and everywhere; with ``--steps`` also the mIoU on other
images of a network that is trained on the paint so far and on the exact labels in a disc at each place.

Example
-------
``python tests/benchmarks/suggestions.py fine images/ labels/ --paint paint/ --features pre --files split.csv:train --steps 60``
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_affmae.cli.labelled import painted_in
from napari_affmae.config import Budget, FinetuneConfig
from napari_affmae.data.classes import class_table_of
from napari_affmae.data.label_images import LabelledImage, pair_labels
from napari_affmae.data.predicted_image import PredictedImage
from napari_affmae.data.suggestions import Suggestions
from napari_affmae.engine.evaluate import evaluate
from napari_affmae.engine.finetune import finetune
from napari_affmae.engine.places import painted_cells, peaks
from napari_affmae.engine.segment import load_segmenter, segment
from napari_affmae.engine.suggest import CELL_PATCHES, suggest
from napari_affmae.engine.uncertainty import cell_means, uncertainty
from napari_affmae.events import Done

Spot = tuple[int, int, int]
"""Number of the image, row, column."""

RADIUS = 6
"""Of the disc that is painted at a place, in pixels."""


def suggested(features: Any, images: Sequence[PredictedImage], count: int, device: Any) -> list[Spot]:
    """Return the places that are suggested."""
    numbers = {image.record.name: number for number, image in enumerate(images)}
    for event in suggest(features, images, count=count, device=device):
        if isinstance(event, Done) and isinstance(event.result, Suggestions):
            return [(numbers[place.image], place.row, place.column) for place in event.result.places]
    return []


def most_uncertain(images: Sequence[PredictedImage], cell: int, count: int) -> list[Spot]:
    """Return the places of largest uncertainty that are not painted."""
    found = []
    for number, image in enumerate(images):
        cells = np.where(painted_cells(image.paint, cell), np.nan, cell_means(image.uncertainty, cell))
        found += [(-cells[at], number, *at) for at in peaks(cells, count)]
    return [(number, row * cell + cell // 2, column * cell + cell // 2) for _, number, row, column in sorted(found)[:count]]


def random_places(images: Sequence[PredictedImage], cell: int, count: int, rng: np.random.Generator) -> list[Spot]:
    """Return places without paint, each as likely."""
    free = [
        (number, *at)
        for number, image in enumerate(images)
        for at in np.argwhere(~painted_cells(image.paint, cell)[: image.record.height // cell, : image.record.width // cell])
    ]
    return [
        (number, int(row) * cell + cell // 2, int(column) * cell + cell // 2)
        for number, row, column in (free[index] for index in rng.permutation(len(free))[:count])
    ]


def wrong_share(spots: Sequence[Spot], wrong: Sequence[np.ndarray], cell: int) -> float:
    """Return the share of wrong pixels in the places."""
    half = cell // 2
    parts = [
        wrong[number][max(row - half, 0) : row + half, max(column - half, 0) : column + half] for number, row, column in spots
    ]
    return float(np.concatenate([part.ravel() for part in parts]).mean()) if parts else float("nan")


def with_discs(paint: np.ndarray, truth: np.ndarray, spots: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return paint with the exact labels in a disc at each place."""
    rows, columns = np.indices(paint.shape)
    near = np.zeros(paint.shape, bool)
    for row, column in spots:
        near |= (rows - row) ** 2 + (columns - column) ** 2 <= RADIUS**2
    return np.where(near & (paint == 0), truth, paint)


def trained_score(
    spots: Sequence[Spot],
    images: Sequence[PredictedImage],
    truths: Sequence[np.ndarray],
    tests: Sequence[LabelledImage],
    classes: Any,
    arguments: argparse.Namespace,
    seed: int,
) -> float:
    """Return the mIoU on test images of a network trained on the paint so far and on the places."""
    examples = []
    for number, image in enumerate(images):
        paint = with_discs(image.paint, truths[number], [(row, column) for at, row, column in spots if at == number])
        if paint.any():
            examples.append(LabelledImage(image.record, paint))
    config = FinetuneConfig(budget=Budget(steps=arguments.steps), device=arguments.device, held_out=0, seed=seed)
    with tempfile.TemporaryDirectory() as run:
        start = arguments.features or arguments.model
        *_, done = finetune(start, examples, Path(run) / "fine", config, classes=classes, sparse=True)
        return evaluate(done.path, tests, device=arguments.device, sparse=True).miou


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path, help="every pixel, in the ids of the paint")
    parser.add_argument("--paint", type=Path, help="what was painted for the network")
    parser.add_argument("--features", type=Path, help="pretrained network, from which training starts too")
    parser.add_argument("--files", help='where places are chosen: names, or "split.csv:train"')
    parser.add_argument("--test-files", help="where trained networks are scored")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--steps", type=int, default=0, help="of each training; 0 trains none")
    parser.add_argument("--seeds", type=int, default=3, help="trainings, and draws of random places")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    network = load_segmenter(arguments.model)
    cell = CELL_PATCHES * network.config.patch_size
    painted = {} if arguments.paint is None else painted_in(arguments.images, arguments.paint, None)
    examples, _ = pair_labels(arguments.images, arguments.labels, arguments.files, sparse=True)
    images, wrong = [], []
    for example in examples:
        result = segment(network, example.record.read(), device=arguments.device)
        paint = painted.get(example.name, np.zeros(example.labels.shape, np.uint8))
        images.append(PredictedImage(example.record, uncertainty(result.probabilities), paint))
        wrong.append(result.labels != example.labels)
    rng = np.random.default_rng(0)
    chosen = {
        "suggested": [suggested(arguments.features or network, images, arguments.count, arguments.device)],
        "most uncertain": [most_uncertain(images, cell, arguments.count)],
        "random": [random_places(images, cell, arguments.count, rng) for _ in range(arguments.seeds)],
        "none": [[]],
    }
    figures: dict[str, Any] = {name: {} for name in chosen}
    for name, draws in chosen.items():
        if name != "none":
            figures[name]["wrong"] = round(float(np.mean([wrong_share(spots, wrong, cell) for spots in draws])), 3)
    if arguments.steps:
        truths = [example.labels for example in examples]
        tests, _ = pair_labels(arguments.images, arguments.labels, arguments.test_files, sparse=True)
        for seed in range(arguments.seeds):
            for name, draws in chosen.items():
                spots = draws[seed % len(draws)]
                score = trained_score(spots, images, truths, tests, class_table_of(network), arguments, seed)
                figures[name].setdefault("miou", []).append(round(score, 3))
                print(seed, name, round(score, 3), flush=True)
    figures["everywhere"] = {"wrong": round(float(np.mean([one.mean() for one in wrong])), 3)}
    print(json.dumps({"images": len(images), "places": arguments.count, **figures}, indent=2))


if __name__ == "__main__":
    main()
