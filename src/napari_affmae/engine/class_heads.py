"""The same network with another class table: classes that stay keep what was learned about them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..card import ClassInfo
from ..model.readout import Readout
from ..model.segmenter import Segmenter
from .device import seeded


def with_classes(model: Segmenter, classes: Sequence[ClassInfo], seed: int = 0) -> Segmenter:
    """Return a new segmenter with these classes, on the device of ``model``, which is not changed.

    Classes are told apart by id: rows of the heads that belong to an id in both tables are copied, those of new ids are drawn
    from the seed, the same for every pixel of a patch: what one stroke teaches would otherwise speckle the patches that it did
    not touch. Everything else is copied, a readout only if the ids are the same.
    """
    before = [info.id for info in model.card.classes]
    with seeded(torch.device("cpu"), seed, len(classes)):
        changed = Segmenter(model.config, len(classes))
    if model.readout is not None and before == [info.id for info in classes]:
        changed.readout = Readout(model.config, len(classes))
    weights = model.state_dict()
    fresh = changed.state_dict()
    for name, value in fresh.items():
        if not name.startswith("heads.") or ".linear." not in name:
            value.copy_(weights[name])
            continue
        # A head's outputs are ordered row, column, class.
        by_class = value.view(-1, len(classes), *value.shape[1:])
        old = weights[name].view(-1, model.num_classes, *value.shape[1:])
        for place, info in enumerate(classes):
            if info.id in before:
                by_class[:, place] = old[:, before.index(info.id)].to(value.device)
            else:
                by_class[:, place] = by_class[:1, place].clone()
    changed.load_state_dict(fresh)
    changed.card = model.card.replace(classes=tuple(classes))
    return changed.to(next(model.parameters()).device)
