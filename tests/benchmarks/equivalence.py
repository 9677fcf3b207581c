"""Do the kernels train the same network as the PyTorch reference, and twice the same? Needs a graphics card.

    python tests/benchmarks/equivalence.py IMAGES --out equivalence.json [--png docs/figures/equivalence.png] [--steps 300]

Pretrains with the kernels and with the reference from the same seeds, on the same tiles and masks (dropout is drawn differently
by each), and compares the loss curves: the difference between implementations against that between seeds. Then makes one step
twice from the same weights, as it is and under ``torch.use_deterministic_algorithms``, and compares all weights bit by bit.
"""

from __future__ import annotations

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
import numpy as np
import numpy.typing as npt
import torch
from comparison.trial import commit_of_code

from napari_affmae.bench.run import describe_machine
from napari_affmae.bench.steps import step_of
from napari_affmae.config import Budget, PretrainConfig
from napari_affmae.data.scan import scan
from napari_affmae.engine import loop
from napari_affmae.engine.device import resolve_device
from napari_affmae.engine.pretrain import pretrain
from napari_affmae.events import Progress
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model_config import ModelConfig

IMPLEMENTATIONS = ("triton", "pytorch")
LAST = 0.2
"""Part of the run, at its end, whose mean loss is compared."""


def main() -> int:
    """Train, compare, draw."""
    given = _parser().parse_args()
    device = resolve_device("cuda")
    curves = {
        implementation: [losses(given, implementation, seed) for seed in given.seed] for implementation in IMPLEMENTATIONS
    }
    report = {
        "machine": describe_machine(device),
        "commit": given.commit or commit_of_code(),
        "steps": given.steps,
        "seeds": given.seed,
        **compared(curves),
        "one step twice": {name: twice(device, flag) for name, flag in {"as it is": False, "deterministic": True}.items()},
        "curves": {name: [curve.tolist() for curve in own] for name, own in curves.items()},
    }
    given.out.write_text(json.dumps(report))
    print(json.dumps({name: value for name, value in report.items() if name != "curves"}, indent=1))
    if given.png is not None:
        draw(curves, given.png)
    return 0


def losses(given: argparse.Namespace, implementation: str, seed: int) -> npt.NDArray[np.float64]:
    """Return the loss of every step of a pretraining run."""
    os.environ["AFFMAE_KERNELS"] = implementation
    loop.READ_SECONDS = 0.0  # a job reads ten losses a second and repeats the last one in between
    images = scan(given.images)
    config = PretrainConfig(
        model=ModelConfig.preset(given.preset, images.channels),
        budget=Budget(steps=given.steps),
        tile=given.tile,
        batch=given.batch,
        seed=seed,
        device="cuda",
        preview_seconds=1e6,
    )
    with tempfile.TemporaryDirectory() as folder:
        events = list(pretrain(images, Path(folder) / "run", config))
    return np.array([event.loss for event in events if isinstance(event, Progress)])


def compared(curves: dict[str, list[npt.NDArray[np.float64]]]) -> dict[str, Any]:
    """Return how far implementations and seeds are apart at the end of the run."""
    ends = {name: [float(curve[-max(1, round(LAST * len(curve))) :].mean()) for curve in own] for name, own in curves.items()}
    between = [abs(ours - theirs) for ours, theirs in zip(*ends.values(), strict=True)]
    return {
        "mean loss of the last fifth": ends,
        "largest difference between implementations": max(between),
        "largest difference between seeds": max(max(values) - min(values) for values in ends.values()),
    }


def twice(device: torch.device, deterministic: bool) -> dict[str, Any]:
    """Make the same step from the same weights two times; say whether all weights end as the same bits."""
    os.environ["AFFMAE_KERNELS"] = "triton"
    torch.use_deterministic_algorithms(deterministic)
    try:
        ends = [weights_after_a_step(device) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    differ = sum(not torch.equal(one, other) for one, other in zip(*ends, strict=True))
    apart = max(float((one - other).abs().max() / one.abs().max().clamp_min(1e-12)) for one, other in zip(*ends, strict=True))
    return {"tensors that differ": differ, "of": len(ends[0]), "largest relative difference": apart}


def weights_after_a_step(device: torch.device) -> list[torch.Tensor]:
    """Return all weights of ``small`` after one step from seed 0 on noise."""
    torch.manual_seed(0)
    torch.cuda.manual_seed_all(0)
    model = MaskedAutoencoder(ModelConfig.preset("small")).to(device)
    step_of(model, 256, 4, device)()
    return [weight.detach().clone() for weight in model.parameters()]


def draw(curves: dict[str, list[npt.NDArray[np.float64]]], path: Path) -> None:
    """Draw the loss over the steps: a colour per implementation, a line per seed."""
    from pictures.curves import smoothed
    from pictures.style import BLUE, ORANGE, new_figure

    figure, axes = new_figure(1, 1, 3.0)
    # The second is drawn over the first, and narrower: where they agree, both are seen.
    for (name, own), color, width in zip(curves.items(), (BLUE, ORANGE), (4, 1.2), strict=True):
        for number, (curve, line) in enumerate(zip(own, ("-", "--", ":", "-."), strict=False)):
            label = {"triton": "kernels", "pytorch": "PyTorch reference"}[name] + f", seed {number}"
            axes[0, 0].plot(smoothed(curve), line, color=color, linewidth=width, label=label)
    axes[0, 0].set(xlabel="steps", ylabel="loss", yscale="log", yticks=(1, 2), yticklabels=("1", "2"))
    axes[0, 0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, default=Path("equivalence.json"))
    parser.add_argument("--png", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--commit", help="of the code, where git cannot say")
    return parser


if __name__ == "__main__":
    sys.exit(main())
