"""Do tokens survive for what they show, or for where they are? Counts survivors over a raster, with content averaged out.

    python tests/benchmarks/token_places.py MODEL --root DATA [--selection local]

Every crop is looked at in all eight symmetries of the square, so that what it shows lies everywhere equally often. A choice by
content then gives a symmetric raster; what differs from one side to the other is a preference for places. Prints survivors per
field over the mean, and the asymmetry: the standard deviation of the raster less its mean over all mirror images and turns.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import numpy as np
import numpy.typing as npt
import torch
from comparison.datasets import DATASETS, data_folder, labelled

from napari_affmae.data.augment import turn
from napari_affmae.data.normalisation import apply, measure
from napari_affmae.data.records import ImageCollection
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import load_model
from napari_affmae.model.segmenter import Segmenter

FIELDS = 4


def main() -> int:
    """Print the rasters of stages 2 to 4."""
    given = _parser().parse_args()
    model = load_model(given.model)
    if given.selection is not None:
        model = _with_selection(model, given.selection)
    images = [example.record for example in labelled(data_folder(given.root), DATASETS[given.dataset], "train")]
    normalisation = model.card.normalisation or measure(ImageCollection(tuple(images)))
    side = given.side or model.card.tile or 256
    rng = np.random.default_rng(given.seed)
    found = np.zeros((3, FIELDS, FIELDS))
    for number in range(given.crops):
        pixels = images[number % len(images)].read()
        row, column = (int(rng.integers(0, size - side + 1)) for size in pixels.shape[:2])
        crop = torch.from_numpy(apply(pixels[row : row + side, column : column + side], normalisation))
        found += rasters(model, crop) / given.crops
    for stage, raster in enumerate(found, start=2):
        print(f"stage {stage}, asymmetry {asymmetry(raster):.2f}")
        print("\n".join("  ".join(f"{value:5.2f}" for value in line) for line in raster))
    return 0


@torch.inference_mode()
def rasters(model: MaskedAutoencoder | Segmenter, crop: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return survivors of stages 2 to 4 over the mean, ``[3, FIELDS, FIELDS]``, of a crop ``[C, T, T]`` in all views."""
    views = turn(crop.expand(8, *crop.shape), torch.arange(8))
    features = model.eval().features(views)
    counts = np.zeros((3, FIELDS, FIELDS))
    for stage, raster in zip(features.stages[1:], counts, strict=True):
        grid = np.array(features.grid[::-1])
        column, row = (stage.positions_xy.flatten(0, 1).numpy() * FIELDS // grid).astype(int).T
        np.add.at(raster, (row, column), 1)
    return counts / counts.mean(axis=(1, 2), keepdims=True)


def asymmetry(raster: npt.NDArray[np.float64]) -> float:
    """Return the standard deviation of a raster less its mean over the eight symmetries; 0 if no side is preferred."""
    views = turn(torch.from_numpy(raster).expand(8, *raster.shape), torch.arange(8)).numpy()
    return float((raster - views.mean(axis=0)).std())


def _with_selection(model: MaskedAutoencoder | Segmenter, selection: str) -> MaskedAutoencoder | Segmenter:
    config = model.config.replace(selection=selection)
    other = MaskedAutoencoder(config) if isinstance(model, MaskedAutoencoder) else Segmenter(config, model.num_classes)
    other.load_state_dict(model.state_dict())
    other.card = model.card
    return other


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model file or run folder")
    parser.add_argument("--root", type=Path, help="folder of the data sets [AFFMAE_DATA]")
    parser.add_argument("--dataset", choices=DATASETS, default="em_vnc_sstem")
    parser.add_argument("--selection", choices=("global", "local"), help="choose survivors so, whatever the model says")
    parser.add_argument("--side", type=int, help="of the crops in pixels; default: a tile of the model")
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
