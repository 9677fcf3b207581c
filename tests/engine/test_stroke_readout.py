"""The readout behind finetuning on strokes: what it knows of strokes when there are more than it is fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_affmae.card import Normalisation
from napari_affmae.data.classes import default_classes
from napari_affmae.data.labels import LabelledImage, LabelledSampler
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine import stroke_readout as module
from napari_affmae.engine.fit_readout import Rows
from napari_affmae.model.readout import Readout
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

STATISTICS = Normalisation(low=(0,), high=(255,), mean=(128,), std=(60,))


def test_thinned_out_strokes_are_as_frequent_as_they_were_painted(micro: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare classes keep more of their pixels, but are not taken for frequent ones."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (192, 192), np.uint8)
    paint = np.zeros_like(image)
    paint[:, 40:56], paint[:, 150:152] = 1, 2
    record = collection_from_arrays({"em": image}).records[0]
    sampler = LabelledSampler([LabelledImage(record, paint)], default_classes((1, 2)), STATISTICS, 64, 1, 0, sparse=True)
    fitted = module.fitted_readout
    seen: list[Rows] = []

    def noted(model: Segmenter, rows: Rows, *others: Any, **more: Any) -> Readout:
        seen.append(rows)
        return fitted(model, rows, *others, **more)

    monkeypatch.setattr(module, "fitted_readout", noted)
    torch.manual_seed(0)
    model = Segmenter(micro, 2)
    readouts = []
    for most in (10_000, 600):
        monkeypatch.setattr(module, "MOST_PIXELS", most)
        readouts.append(module.stroke_readout(model, sampler, STATISTICS, 64, 0, torch.device("cpu")))
    assert [torch.bincount(rows.classes).tolist() for rows in seen] == [[16 * 192, 2 * 192], [300, 300]]
    for rows in seen:
        assert torch.bincount(rows.classes, rows.stands_for).tolist() == pytest.approx([16 * 192, 2 * 192])
    torch.testing.assert_close(readouts[0].log_prior, readouts[1].log_prior)
    # The image is noise: nothing but their frequency tells the classes apart.
    whole, thinned = ((readout.filters.leaves[..., 1]).mean() for readout in readouts)
    assert thinned == pytest.approx(float(whole), abs=0.05)
