"""How long live training takes without a window: from changed labels to the new prediction of the visible 512² region.

Paints strokes by the truth on a synthetic micrograph, asks for a round after each, and prints a table and one line of JSON.
With ``--others``, so many further micrographs are open and painted, too. Neither napari nor Qt is needed::

    python tests/benchmarks/live_engine.py --device cuda --preset small
    python tests/benchmarks/live_engine.py --device cpu --model pretrained.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
from comparison.trial import commit_of_code
from scipy import ndimage

from napari_affmae.config import LiveConfig
from napari_affmae.control import LiveControl
from napari_affmae.data.classes import default_classes
from napari_affmae.data.label_images import LabelledImage
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.data.scribbles import stroke
from napari_affmae.data.synthetic import synthetic_em
from napari_affmae.engine.device import describe_device
from napari_affmae.engine.live import LiveSession
from napari_affmae.engine.live_request import LiveRequest
from napari_affmae.events import LiveRound
from napari_affmae.model_config import PRESETS

SIDE = 512
CLASSES = 3

OTHER_STROKES = 12
"""Strokes on each of the other micrographs, enough to lie in most of its tiles."""


def main() -> int:
    """Measure and print."""
    given = _parser().parse_args()
    pairs = [synthetic_em(SIDE, number)[:2] for number in range(1 + given.others)]
    truths = [np.minimum(truth, CLASSES - 1) for _, truth in pairs]
    images = collection_from_arrays({f"em {number}": image for number, (image, _) in enumerate(pairs)})
    config = LiveConfig(device=given.device)
    session = LiveSession(
        given.model or f"scratch:{given.preset}", default_classes(range(1, CLASSES + 1)), images, config, threads=given.threads
    )
    record, control = images.records[0], LiveControl()
    start = time.perf_counter()
    list(session.round(LiveRequest(0, [], record), control))
    prepared = time.perf_counter() - start
    rounds = []
    others = [
        LabelledImage(other, _paint(truth, OTHER_STROKES)[-1])
        for other, truth in zip(images.records[1:], truths[1:], strict=True)
    ]
    for generation, paint in enumerate(_paint(truths[0], given.rounds + 1), start=1):
        control.supersede(generation)
        request = LiveRequest(generation, [LabelledImage(record, paint), *others], record)
        [done] = [event for event in session.round(request, control) if isinstance(event, LiveRound)]
        rounds.append({"seconds": done.seconds, "before": done.loss_before, "after": done.loss_after})
    first, *rounds = rounds
    halved = sum(one["after"] <= 0.5 * one["before"] for one in rounds)
    seconds = [one["seconds"] for one in rounds]
    for number, one in enumerate(rounds, start=1):
        print(f"round {number}: {one['seconds']:.3f} s, loss on the new stroke {one['before']:.3f} -> {one['after']:.3f}")
    print(f"median {np.median(seconds):.3f} s, longest {max(seconds):.3f} s, halved {halved} of {len(rounds)}")
    about: dict[str, Any] = {"model": str(given.model or given.preset), "device": describe_device(session.device)}
    figures = {
        "others": given.others,
        "tile": session.tile,
        "prepare": prepared,
        "first": first["seconds"],
        "seconds": seconds,
        "halved": halved,
    }
    print(json.dumps({**about, **figures, "commit": commit_of_code()}))
    return 0


def _paint(truth: np.ndarray, rounds: int) -> list[np.ndarray]:
    """Return paint that grows by a stroke per round; the first has one of every class."""
    rng = np.random.default_rng(0)
    painted, so_far = [], np.zeros(truth.shape, np.uint8)
    for number in range(CLASSES + rounds - 1):
        class_id = number % CLASSES
        depth = ndimage.distance_transform_edt((truth == class_id) & (so_far == 0))
        places = np.flatnonzero(depth > 0)
        window, line = stroke(depth, int(rng.choice(places)), rng)
        so_far = so_far.copy()
        so_far[window][line] = class_id + 1
        if number >= CLASSES - 1:
            painted.append(so_far)
    return painted


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a pretrained run or model file; from scratch without")
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--others", type=int, default=0, help="further painted micrographs")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice without")
    return parser


if __name__ == "__main__":
    sys.exit(main())
