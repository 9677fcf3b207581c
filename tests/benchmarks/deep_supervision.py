"""Pretrain twice, with and without the losses on the deep stages, for the figures that show what deep supervision does.

    python tests/benchmarks/deep_supervision.py --root DATA --out deep-supervision --preset tiny --steps 1000

The product always trains with them, so both networks are trained here, by one loop and from one seed: the same tiles, masks and
steps. Writes ``with.safetensors`` and ``without.safetensors`` into the folder, and a line for each as it ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import torch
from comparison.datasets import DATASETS, data_folder, unlabelled
from comparison.fit import Loss, fit
from torch import Tensor

from napari_affmae.config import Budget, PretrainConfig
from napari_affmae.data.augment import augment
from napari_affmae.data.normalisation import measure
from napari_affmae.data.tiles import TileSampler
from napari_affmae.engine.device import resolve_device
from napari_affmae.model.mae import LOSS_WEIGHTS, MaskedAutoencoder
from napari_affmae.model.masking import draw_mask
from napari_affmae.model.model_file import save_model
from napari_affmae.model_config import ModelConfig

VARIANTS: Mapping[str, Mapping[str, float]] = {"with": LOSS_WEIGHTS, "without": {"res2": LOSS_WEIGHTS["res2"]}}
"""Weights of the losses that a network learns from."""

SETTINGS = PretrainConfig(model=ModelConfig())
"""Of them the defaults of pretraining are taken: learning rate, betas, warm-up and jitter."""


def main() -> int:
    """Train what is not there yet."""
    given = _parser().parse_args()
    device = resolve_device(given.device)
    pool = unlabelled(data_folder(given.root), DATASETS[given.dataset])
    normalisation = measure(pool, seed=given.seed)
    sampler = TileSampler(pool, normalisation, given.tile, given.batch, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, weights in VARIANTS.items():
        file = given.out / f"{name}.safetensors"
        if file.exists():
            continue
        torch.manual_seed(given.seed)
        model = MaskedAutoencoder(ModelConfig.preset(given.preset, pool.channels))
        model.card = model.card.replace(normalisation=normalisation, pixel_size=pool.pixel_size, tile=given.tile)
        fit(
            model,
            weighted(model, weights),
            lambda step: (sampler.batch(step),),
            partial(prepare, model.config),
            budget=Budget(steps=given.steps),
            rate=SETTINGS.learning_rate,
            betas=SETTINGS.betas,
            warmup=SETTINGS.warmup,
            seed=given.seed,
            device=device,
        )
        save_model(model, file, steps=given.steps, loss_weights=dict(weights))
        print(f"{name} deep supervision: {given.steps} steps in {file}", flush=True)
    return 0


def weighted(model: MaskedAutoencoder, weights: Mapping[str, float]) -> Loss:
    """Return the loss of pretraining with these weights by head; heads without one are not trained."""

    def loss(tensors: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        _, parts = model.training_loss(*tensors)
        return torch.stack([weight * parts[name] for name, weight in weights.items()]).sum(), parts

    return loss


def prepare(config: ModelConfig, tensors: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Augment and mask a batch as pretraining does."""
    images = augment(tensors[0], jitter=SETTINGS.jitter, generator=generator)[0]
    grid = config.grid(*images.shape[-2:])
    return images, *draw_mask(len(images), grid, config.mask_ratio, config.mask_kind, images.device, generator)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of the data sets [AFFMAE_DATA]")
    parser.add_argument("--out", type=Path, default=Path("deep-supervision"), help="folder for the two model files")
    parser.add_argument("--dataset", choices=DATASETS, default="em_vnc_sstem")
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="tiny")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
