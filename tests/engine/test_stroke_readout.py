"""The readout behind finetuning on strokes: how frequent it takes classes to be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from napari_affmae.card import Normalisation
from napari_affmae.data.classes import default_classes
from napari_affmae.data.labels import LabelledImage, LabelledSampler
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine import stroke_readout as module
from napari_affmae.engine.described_paint import result_of
from napari_affmae.errors import DataError
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

STATISTICS = Normalisation(low=(0,), high=(255,), mean=(128,), std=(60,))
SIDE, BRIGHT = 192, 24
"""The rightmost eighth of the image is bright."""


@pytest.mark.parametrize("most", [10_000, 600])
@pytest.mark.parametrize("widths", [(4, 4), (30, 2), (2, 16)])
def test_classes_are_as_frequent_as_they_are_found_however_much_of_them_is_painted(
    micro: ModelConfig, monkeypatch: pytest.MonkeyPatch, widths: tuple[int, int], most: int
) -> None:
    monkeypatch.setattr(module, "MOST_PIXELS", most)
    rng = np.random.default_rng(0)
    image = rng.integers(40, 90, (SIDE, SIDE), np.uint8)
    image[:, -BRIGHT:] += 120
    paint = np.zeros_like(image)
    paint[:, 80 : 80 + widths[0]] = 1
    paint[:, -12 - widths[1] // 2 : -12 + widths[1] // 2] = 2
    record = collection_from_arrays({"em": image}).records[0]
    sampler = LabelledSampler([LabelledImage(record, paint)], default_classes((1, 2)), STATISTICS, SIDE, 1, 0, sparse=True)
    torch.manual_seed(0)
    readout = result_of(module.stroke_readout(Segmenter(micro, 2), sampler, STATISTICS, SIDE, 0, torch.device("cpu")))
    dark, bright = readout.log_prior.tolist()
    # Where the readout is unsure, one step stays on this side of the truth.
    assert math.log(3) < dark - bright < math.log((SIDE - BRIGHT) / BRIGHT)


def test_an_image_that_vanished_is_left_out(micro: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(40, 90, (64, 64), np.uint8) for name in "abc"}
    paint = np.zeros((64, 64), np.uint8)
    paint[:4], paint[-4:] = 1, 2
    examples = [LabelledImage(record, paint) for record in collection_from_arrays(arrays).records]
    sampler = LabelledSampler(examples, default_classes((1, 2)), STATISTICS, 64, 1, 0, sparse=True)
    gone = {1}
    read = LabelledSampler.image

    def image(self: LabelledSampler, index: int) -> Any:
        if index in gone:
            raise DataError("it vanished")
        return read(self, index)

    monkeypatch.setattr(LabelledSampler, "image", image)
    torch.manual_seed(0)
    model = Segmenter(micro, 2)
    assert result_of(module.stroke_readout(model, sampler, STATISTICS, 64, 0, torch.device("cpu"))) is not None
    assert [item.name for item in sampler.lost] == ["b"]
    gone |= {0, 2}
    with pytest.raises(DataError, match="none of the 3 labelled images can be read any more"):
        result_of(module.stroke_readout(model, sampler, STATISTICS, 64, 0, torch.device("cpu")))
