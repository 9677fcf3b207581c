"""Draw the figures of the documentation from open data, models and lines of results; PNG files under docs/figures.

    python tests/benchmarks/figures.py --root DATA --model em.safetensors --pair deep-supervision \\
        --lines docs/results.jsonl --run runs/cells

Each input brings the figures that it is for, and what is not given is told. ``--pair`` is the folder that
``deep_supervision.py`` writes; ``--lines`` are those of ``quality.py``. Operations are counted on any machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
from comparison.datasets import data_folder
from comparison.groups import by_labels
from comparison.groups import patience as patience_of
from comparison.lines import read_lines
from deep_supervision import VARIANTS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pictures import curves, features, labels, operations, patience, rank, tokens
from pictures.sections import Section, sections

from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import load_model
from napari_affmae.model.segmenter import Segmenter

OUT = Path(__file__).parents[2] / "docs" / "figures"
SIDE = 512
Draw = Callable[[], Figure]


def main() -> int:
    """Draw what the inputs are there for."""
    given = _parser().parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, draw in _figures(given):
        if isinstance(draw, str):
            print(f"{name}: not drawn, {draw}", file=sys.stderr)
            continue
        figure = draw()
        path = given.out / f"{name}.png"
        figure.savefig(path)
        plt.close(figure)
        print(path)
    return 0


def _figures(given: argparse.Namespace) -> Iterator[tuple[str, Draw | str]]:
    """Yield the name of each figure and how to draw it, or what it lacks."""

    def shown(model: MaskedAutoencoder | Segmenter) -> list[Section]:
        # Tokens compete over the whole image, so a network is looked at in what it was trained and works on: a tile.
        return sections(data_folder(given.root), given.dataset, "val", given.side or model.card.tile or SIDE)

    def survivors() -> Figure:
        model = load_model(given.model)
        return tokens.draw(model, shown(model))

    yield "tokens", survivors if given.model else "give a model with --model"
    if given.pair:
        pair = {name: _pretrained(given.pair / f"{name}.safetensors") for name in VARIANTS}
        yield "features", lambda: features.draw(pair, shown(pair["with"])[0])
        yield "rank", lambda: rank.draw(pair, shown(pair["with"]))
    else:
        yield "features, rank", "give the folder of deep_supervision.py with --pair"
    lines = [line for path in given.lines for line in read_lines(path)]
    yield "operations", lambda: operations.draw(given.preset, lines)
    yield "curves", (lambda: curves.draw(given.run)) if given.run else "give pretraining runs with --run"
    buys = patience_of(lines)
    why = "give lines of quality.py with several --minutes, with --lines"
    yield "patience", (lambda: patience.draw(buys)) if buys else why
    worth = by_labels(lines)
    why = "give lines of quality.py with several --labels and kinds of --paint, with --lines"
    yield "labels", (lambda: labels.draw(worth)) if worth else why


def _pretrained(path: Path) -> MaskedAutoencoder:
    model = load_model(path)
    if not isinstance(model, MaskedAutoencoder):
        raise ValueError(f"{path} is no pretrained network")
    return model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of the data sets [AFFMAE_DATA]")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the PNG files")
    parser.add_argument("--model", type=Path, help="model or run whose tokens are drawn")
    parser.add_argument("--pair", type=Path, help="folder of a pair with and without deep supervision")
    parser.add_argument("--lines", type=Path, nargs="*", default=[], help="lines of quality.py")
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="pretraining runs whose losses are drawn")
    parser.add_argument("--dataset", default="em_vnc_sstem", help="whose validation images are looked at")
    parser.add_argument("--side", type=int, help="of the square that is looked at, in pixels; default: a tile of the model")
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="small", help="whose operations are counted")
    return parser


if __name__ == "__main__":
    sys.exit(main())
