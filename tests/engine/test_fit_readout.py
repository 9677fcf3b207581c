"""Fitting a readout: who sees which paint, and by what paint heads are judged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_affmae.engine.described_paint import Rows, result_of
from napari_affmae.engine.fit_readout import fit_readout
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

PIXELS = 40
"""Of each member's part of the paint."""


def network() -> Segmenter:
    torch.manual_seed(0)
    config = ModelConfig(
        patch_size=4, embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), decoder_dim=8, decoder_heads=2
    )
    return Segmenter(config, 2)


def painted(model: Segmenter, filters: torch.Tensor, classes: torch.Tensor, logits: torch.Tensor) -> Rows:
    """Return pixels of four parts in turn, of which features know nothing."""
    features = sum(model.config.embed_dims) + 4 * model.config.decoder_dim
    cells = torch.arange(len(classes)) % 4
    return Rows(
        filters,
        torch.zeros(len(classes), features),
        logits,
        classes,
        torch.ones(len(classes)),
        cells,
        torch.randn(256, features),
    )


def test_trees_of_every_member_see_all_paint() -> None:
    """What only one part of the paint shows is known to the trees of the member whose network leaves this part out, too."""
    model = network()
    filters = torch.randn(4 * PIXELS, 6) / 10
    classes = torch.zeros(4 * PIXELS, dtype=torch.int64)
    classes[: 2 * PIXELS] = 1
    filters[: 2 * PIXELS] += 2
    alone = torch.arange(4 * PIXELS) % 4 == 0
    filters[alone] += torch.where(classes[alone] == 1, -6.0, 6.0)[:, None]
    readout = result_of(
        fit_readout(model, painted(model, filters, classes, torch.zeros(4 * PIXELS, 2)), 0, heads_trained=False)
    )
    assert (readout.filters(filters).argmax(-1) == classes).all()


def test_heads_are_judged_by_trees_that_did_not_see_the_pixel() -> None:
    """Each part of the paint looks unlike the others, so that only trees that saw it know it; heads err once in ten pixels."""
    model = network()
    part = torch.arange(4 * PIXELS) % 4
    classes = part % 2
    right = torch.where(torch.arange(4 * PIXELS) % 10 == 0, 1 - classes, classes)
    heads = torch.nn.functional.one_hot(right, 2) * 10.0
    filters = part[:, None] + torch.randn(4 * PIXELS, 6) / 20
    readout = result_of(fit_readout(model, painted(model, filters, classes, heads), 0, heads_trained=True))
    assert readout.heads_share > 0


def test_paint_that_is_thinned_out_counts_as_all_of_it() -> None:
    """Ten times as much is painted of the first class; what both look like says nothing."""
    model = network()
    priors, opinions = [], []
    for shown in (2000, 200):
        classes = (torch.arange(shown + 200) >= shown).long()
        filters = torch.randn(len(classes), 6, generator=torch.Generator().manual_seed(0))
        rows = painted(model, filters, classes, torch.zeros(len(classes), 2))
        rows = replace(rows, stands_for=torch.where(classes == 0, 2000 / shown, 1.0))
        readout = result_of(fit_readout(model, rows, 0, heads_trained=False))
        priors.append(readout.log_prior)
        opinions.append(float(readout.filters(torch.randn(500, 6)).mean(dim=(0, 1))[0].exp()))
    torch.testing.assert_close(priors[0], priors[1])
    assert opinions[0] == pytest.approx(opinions[1], rel=0.1)
