"""A scripted annotator: each stroke goes where the prediction is most wrong; live training against a random forest.

    python tests/benchmarks/annotator.py MODEL --root DATA [--dataset em_vnc_sstem] [--strokes 20] [--out annotator.jsonl]
    python tests/benchmarks/annotator.py --plot annotator.jsonl --png docs/annotator.png

One stroke of every class comes first. Each further one is painted, as a hand would, inside the largest connected error of the
method's own prediction, by the truth; after each the method learns and predicts again. Scored on the image that is painted and
on one that is not. A line of JSON per stroke. ``--method dense`` trains on every pixel of the painted image instead, once.
Images are of the training split (the seed says which), and the first of the validation split.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from comparison.datasets import DATASETS, SCRIBBLED, Dataset, data_folder, labelled
from comparison.forest import Forest, features
from comparison.scores import score
from comparison.trial import commit_of_code
from scipy import ndimage

from napari_affmae.config import Budget, FinetuneConfig, LiveConfig
from napari_affmae.control import LiveControl
from napari_affmae.data.classes import to_targets
from napari_affmae.data.label_images import LabelledImage
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.data.scribbles import scribbles, stroke
from napari_affmae.engine.device import describe_device, resolve_device
from napari_affmae.engine.finetune import finetune
from napari_affmae.engine.live import LiveSession
from napari_affmae.engine.live_request import LiveRequest
from napari_affmae.engine.segment import segment
from napari_affmae.events import LivePrediction, LiveRound

FAR = 3
"""Images that were painted before lie so far from each other and from the painted one, in the order of their names."""

Ids = npt.NDArray[np.uint8]
Answer = Callable[[Ids], tuple[list[Ids], dict[str, Any]]]
"""From paint (0 not painted, class + 1) to class indices of the painted image and of the other one, and figures."""


def main() -> int:
    """Annotate once per seed and method, or draw."""
    given = _parser().parse_args()
    if given.plot:
        draw([json.loads(text) for text in given.plot.read_text().splitlines()], given.png)
        return 0
    root, dataset = data_folder(given.root), DATASETS[given.dataset]
    for seed in given.seed:
        train = labelled(root, dataset, "train")
        images = [crop(image, given.side) for image in (train[seed], labelled(root, dataset, "val")[0])]
        before = [train[(seed + FAR * number) % len(train)] for number in range(1, given.others + 1)]
        others = [(one, scribbles(one[1], SCRIBBLED, seed)) for one in (crop(image, given.side) for image in before)]
        for method in given.method:
            truths = [image[1] for image in images]
            if method == "dense":
                lines = dense(given, images, dataset, seed)
            else:
                answer = live(given, images, others, dataset, seed) if method == "live" else forest(images, dataset, seed)
                lines = annotate(answer, truths, dataset, given.strokes, seed)
            for line in lines:
                about = {"method": method, "dataset": dataset.name, "seed": seed, "side": given.side, "set": given.set}
                about |= {"others": given.others} if given.others else {}
                where = {"device": describe_device(resolve_device(given.device)), "commit": commit_of_code()}
                text = json.dumps({**about, **line, **where})
                print(text, flush=True)
                with given.out.open("a") as file:
                    file.write(text + "\n")
    return 0


def crop(image: LabelledImage, side: int) -> tuple[npt.NDArray[Any], Ids]:
    """Return the middle of an image and of its labels, at most ``side`` pixels wide and high."""
    starts = [max(0, (size - side) // 2) for size in image.labels.shape]
    window = tuple(slice(start, start + side) for start in starts)
    pixels = image.record.read()[window]
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels, image.labels[window].astype(np.uint8)


def annotate(answer: Answer, truths: list[Ids], dataset: Dataset, strokes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Paint, ask, score; one line per answer."""
    rng = np.random.default_rng(seed)
    truth = truths[0]
    paint = np.zeros_like(truth)
    classes = np.unique(truth).tolist()
    for class_id in classes:
        add_stroke(paint, truth == class_id, class_id, rng)
    for count in range(len(classes), strokes + 1):
        start = time.perf_counter()
        predicted, figures = answer(paint.copy())
        seconds = time.perf_counter() - start
        yield {"strokes": count, **scored(predicted, truths, dataset), "seconds": seconds, **figures}
        region, class_id = largest_error(predicted[0], truth)
        add_stroke(paint, region, class_id, rng)


def scored(predicted: list[Ids], truths: list[Ids], dataset: Dataset) -> dict[str, float]:
    """Return mIoU on the image that is painted and on the other one."""
    table = dataset.table("dense")
    pairs = zip(("painted", "other"), predicted, truths, strict=True)
    return {name: score([ours], [theirs], table, None).miou for name, ours, theirs in pairs}


def largest_error(predicted: npt.NDArray[Any], truth: Ids) -> tuple[npt.NDArray[np.bool_], int]:
    """Return the largest connected region of one true class that is predicted as another, and this class."""
    best, found, size = 0, truth == truth, 0
    for class_id in np.unique(truth).tolist():
        regions, _ = ndimage.label((truth == class_id) & (predicted != class_id))
        sizes = np.bincount(regions.ravel())[1:]
        if len(sizes) and sizes.max() > size:
            best, size = class_id, int(sizes.max())
            found = regions == sizes.argmax() + 1
    return found, best


def add_stroke(paint: Ids, region: npt.NDArray[np.bool_], class_id: int, rng: np.random.Generator) -> None:
    """Paint a stroke that begins in the middle of a region and stays inside."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    window, line = stroke(depth, int(depth.argmax()), rng)
    paint[window][line] = class_id + 1


def live(
    given: argparse.Namespace,
    images: list[tuple[npt.NDArray[Any], Ids]],
    others: list[tuple[tuple[npt.NDArray[Any], Ids], Ids]],
    dataset: Dataset,
    seed: int,
) -> Answer:
    """Answer by rounds of live training; ``others`` were painted before."""
    earlier = {f"before {number}": pixels for number, ((pixels, _), _) in enumerate(others)}
    records = collection_from_arrays({"painted": images[0][0], "other": images[1][0], **earlier}).records
    painted = [LabelledImage(record, paint) for record, (_, paint) in zip(records[2:], others, strict=True)]
    changes = dict(text.split("=", 1) for text in given.set)
    config = LiveConfig(seed=seed, device=given.device, **{name: json.loads(value) for name, value in changes.items()})
    session = LiveSession(given.model, dataset.table("scribbles"), ImageCollection(records[:1]), config)
    control, asked = LiveControl(0), 0

    def answer(paint: Ids) -> tuple[list[Ids], dict[str, Any]]:
        nonlocal asked
        asked += 1
        control.supersede(asked)
        request = LiveRequest(asked, [LabelledImage(records[0], paint), *painted], records[0])
        labels = np.zeros_like(paint)
        figures: dict[str, Any] = {}
        for event in session.round(request, control):
            if isinstance(event, LivePrediction):
                height, width = event.labels.shape
                labels[event.top : event.top + height, event.left : event.left + width] = event.labels
            elif isinstance(event, LiveRound):
                figures = {"steps": event.steps, "round": event.seconds, "before": event.loss_before, "after": event.loss_after}
        file = session.save(given.out.with_suffix(".safetensors"))
        other = segment(file, images[1][0], device=given.device).labels
        return [labels.astype(np.int64) - 1, other.astype(np.int64) - 1], figures

    return answer


def forest(images: list[tuple[npt.NDArray[Any], Ids]], dataset: Dataset, seed: int) -> Answer:
    """Answer by a forest on filter responses that are computed once."""
    responses = [features(image) for image, _ in images]

    def answer(paint: Ids) -> tuple[list[Ids], dict[str, Any]]:
        table = dataset.table("scribbles")
        learner = Forest(len(table), seed)
        learner.learn(responses[:1], [to_targets(paint, table, sparse=True)])
        return [learner.classify(response) for response in responses], {}

    return answer


def dense(
    given: argparse.Namespace, images: list[tuple[npt.NDArray[Any], Ids]], dataset: Dataset, seed: int
) -> Iterator[dict[str, Any]]:
    """Finetune the network on all labels of the image that would be painted."""
    record = collection_from_arrays({"painted": images[0][0]}).records[0]
    config = FinetuneConfig(budget=Budget(steps=given.dense_steps), held_out=0, seed=seed, device=given.device)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in finetune(given.model, [LabelledImage(record, images[0][1])], folder, config, classes=dataset.table("dense")):
            pass
        predicted = [segment(folder, image, device=given.device).labels for image, _ in images]
    truths = [truth for _, truth in images]
    figures = {"steps": given.dense_steps, "seconds": time.perf_counter() - start}
    yield {"strokes": None, **scored(predicted, truths, dataset), **figures}


LOOKS = {
    "live": ("#0072b2", "live training"),
    "forest": ("#d55e00", "random forest"),
    "dense": ("#555555", "all pixels labelled"),
}


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """Plot the scores over the number of strokes, a row per data set, the mean of seeds thick."""
    from matplotlib.figure import Figure  # not pyplot, which looks for a window

    names = list(dict.fromkeys(line["dataset"] for line in lines))
    figure = Figure(figsize=(9, 3.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharey="row", squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for axis, (where, title) in zip(row, {"painted": "painted image", "other": "another image"}.items(), strict=True):
            for method, (color, label) in LOOKS.items():
                own = [line for line in lines if line["method"] == method and line["dataset"] == name]
                if not own:
                    continue
                if own[0]["strokes"] is None:
                    level = float(np.mean([line[where] for line in own]))
                    axis.axhline(level, color=color, linestyle="--", linewidth=1.5, label=label)
                    continue
                for seed in sorted({line["seed"] for line in own}):
                    run = [(line["strokes"], line[where]) for line in own if line["seed"] == seed]
                    axis.plot(*zip(*run, strict=True), color=color, alpha=0.3, linewidth=1)
                counts = sorted({line["strokes"] for line in own})
                means = [np.mean([line[where] for line in own if line["strokes"] == count]) for count in counts]
                axis.plot(counts, means, color=color, linewidth=2, label=label)
            axis.set(title=f"{name}, {title}", xlabel="strokes")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.2)
        row[0].set_ylabel("mean IoU")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=120)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="scratch:tiny", help="pretrained model to start from, or scratch:PRESET")
    parser.add_argument("--root", type=Path, help="folder of the data sets [AFFMAE_DATA]")
    parser.add_argument("--dataset", choices=DATASETS, default="em_vnc_sstem")
    parser.add_argument("--method", nargs="+", choices=("live", "forest", "dense"), default=["live", "forest"])
    parser.add_argument("--strokes", type=int, default=20)
    parser.add_argument("--dense-steps", type=int, default=400)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--others", type=int, default=0, help="images that live has strokes over 1 %% of before it begins")
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of live training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("annotator.jsonl"))
    parser.add_argument("--plot", type=Path, help="draw the lines of this file, and do nothing else")
    parser.add_argument("--png", type=Path, default=Path("docs/annotator.png"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
