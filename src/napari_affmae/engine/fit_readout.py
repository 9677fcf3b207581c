"""Fit a readout to painted pixels: half a second on two CPU cores, and the same paint gives the same readout.

The networks of its members leave out some of the paint, each another part. Trees see all of it: they differ by their random
questions already, and a stroke that one of four does not know is much where there are ten.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..model.readout import COMPONENTS, HIDDEN, MEMBERS, Committee, Readout
from ..model.segmenter import Segmenter
from .described_paint import Rows
from .fit_trees import fit_trees

STEPS = 80
_RATE, _DECAY = 1e-2, 0.1
_DROPOUT = (0.5, 0.3)
"""Of inputs and hidden layer. Paint is little, and the network's features are many."""

Frequencies = Literal["painted", "found"]
"""Whether classes are as frequent as they are painted, or as they are found where the paint is."""

_BALANCE: dict[Frequencies, float] = {"painted": 0.5, "found": 1.0}
"""Exponent of what is evened out: at 0.5 a class counts as the square root of its painted pixels, at 1 all classes alike."""

_RESTORED = 0.1
"""Exponent of the painted frequencies in the end: a fifth of what was evened out."""

_HEADS_SHARES = (0.0, 0.25, 0.5, 1.0)
_SMALL = 1e-3


def fit_readout(
    model: Segmenter, rows: Rows, seed: int, *, heads_trained: bool, frequencies: Frequencies = "painted"
) -> Generator[float, None, Readout]:
    """Fit a new readout for a network and return it; yield the loss after each of :data:`STEPS` steps.

    Nothing of an earlier readout is gone on with, so that strokes leave no trace but the paint that is there.

    Parameters
    ----------
    rows
        Painted pixels of at least two classes.
    heads_trained
        Whether the heads' opinion may count.
    frequencies
        ``"painted"`` suits paint that corrects what is shown, stroke by stroke; ``"found"`` any other, and needs rows with
        pixels from elsewhere.
    """
    device = rows.filters.device
    with torch.no_grad():
        readout = Readout(model.config, model.num_classes).to(device)
        _standardise(readout, rows.patches, seed)
        # Not by bincount: with weights, a card adds up in an order of its own.
        counts = rows.stands_for @ functional.one_hot(rows.classes, model.num_classes).float()
        readout.present.copy_(counts > 0)
        if frequencies == "painted":
            readout.log_prior.copy_(_RESTORED * (counts / counts.sum()).clamp_min(_SMALL).log() * readout.present)
        components = readout.components(rows.context)
    left_out = _left_out(rows)
    balance = _BALANCE[frequencies]
    weights = _weights(rows, ~left_out, model.num_classes, balance)
    yield from _train(readout.context, components, rows.classes, weights, torch.Generator(device).manual_seed(seed))
    if heads_trained:
        # Trees for this alone: those that saw a pixel are surer of it than they would be of another.
        fit_trees(readout.filters, rows.filters, rows.classes, weights, seed)
        with torch.no_grad():
            _weigh_heads(readout, rows, left_out, weights)
    everything = _weights(rows, torch.ones_like(left_out), model.num_classes, balance)
    fit_trees(readout.filters, rows.filters, rows.classes, everything, seed)
    if frequencies == "found":
        readout.log_prior.copy_(_found(readout, rows).log())
    return readout


def loss_on(readout: Readout | None, rows: Rows, classes: int) -> float:
    """Return the mean cross-entropy on pixels; without a readout that of a blind guess."""
    if readout is None:
        return math.log(classes)
    with torch.no_grad():
        probabilities = readout.members(rows.filters, rows.context, rows.logits).mean(dim=0)
        scores = probabilities.clamp_min(1e-12).log() + readout.log_prior
        return float(functional.cross_entropy(scores, rows.classes))


def balanced_loss_on(readout: Readout, rows: Rows, classes: int) -> float:
    """Return the cross-entropy on pixels, averaged over the classes that are among them."""
    with torch.no_grad():
        probabilities = readout.members(rows.filters, rows.context, rows.logits).mean(dim=0)
        weights = _weights(rows, torch.ones_like(rows.classes, dtype=torch.bool)[None], classes, 1.0)[0]
        return float(-(probabilities.gather(1, rows.classes[:, None])[:, 0].clamp_min(1e-12).log() * weights).sum())


def _standardise(readout: Readout, features: Tensor, seed: int) -> None:
    """Take the means, scales and main directions of features from the tiles that hold paint."""
    mean, scale = features.mean(dim=0), features.std(dim=0) + _SMALL
    centred = (features - mean) / scale
    count = min(COMPONENTS, *centred.shape)
    devices = [centred.device] if centred.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        _, sizes, directions = torch.pca_lowrank(centred, count, center=False, niter=4)
    strongest = (sizes[0] / len(centred) ** 0.5).clamp_min(_SMALL)
    readout.context_mean.copy_(mean)
    readout.basis.zero_()
    readout.basis[:, :count] = directions / scale[:, None] / strongest


def _left_out(rows: Rows) -> Tensor:
    """Return which member leaves out which pixels, bool ``[M, n]``; nobody leaves out a class that he sees nowhere else."""
    left_out = rows.cells == torch.arange(MEMBERS, device=rows.cells.device)[:, None]
    for index in torch.unique(rows.classes):
        own = rows.classes == index
        if len(torch.unique(rows.cells[own])) < 2:
            left_out[:, own] = False
    return left_out


def _weights(rows: Rows, used: Tensor, count: int, balance: float) -> Tensor:
    """Return the weight of every pixel for each member, ``[M, n]``, each summing to 1: classes count as all of their paint."""
    paint = used * rows.stands_for
    counts = paint @ functional.one_hot(rows.classes, count).float()
    per_class = torch.where(counts > 0, counts.clamp_min(1) ** -balance, 0.0)
    per_class = per_class / (per_class * counts).sum(dim=1, keepdim=True)
    return per_class[:, rows.classes] * paint


@torch.no_grad()
def _found(readout: Readout, rows: Rows) -> Tensor:
    """Return how frequent classes are in the tiles, ``[K]``, in the opinion of a readout to which all are equally likely.

    One step of the algorithm of Saerens, Latinne and Decaestecker (Neural Computation 14, 2002); more of them leave rare
    classes with nothing.
    """
    if rows.elsewhere is None:
        raise ValueError("rows without pixels from elsewhere say nothing about frequencies")
    found: Tensor = readout.members(*rows.elsewhere).mean(dim=(0, 1))
    return found.clamp_min(_SMALL)


def _train(
    committee: Committee,
    inputs: Tensor,
    classes: Tensor,
    weights: Tensor,
    generator: torch.Generator,
) -> Iterator[float]:
    """Fit a committee by full batches; yield the loss of every step."""
    matrices, vectors = [committee.weight1, committee.weight2], [committee.bias1, committee.bias2]
    with torch.no_grad():
        for matrix, scale in zip(matrices, ((2 / inputs.shape[1]) ** 0.5, 0.5 / HIDDEN**0.5), strict=True):
            # Drawn on the CPU: devices agree about where to start.
            drawn = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(matrix.shape[1]))
            matrix.copy_(drawn * scale)
    members, pixels = weights.shape
    targets = classes.repeat(members)
    groups = [{"params": matrices, "weight_decay": _DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=_RATE, fused=True)
    for parameter in committee.parameters():
        parameter.requires_grad_(True)
    try:
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * max(0.5 * (1 + math.cos(math.pi * step / STEPS)), 0.02)
            with torch.enable_grad():
                seen = _dropped(inputs, _DROPOUT[0], generator)
                hidden = _dropped((seen @ committee.weight1 + committee.bias1).relu(), _DROPOUT[1], generator)
                logits = hidden @ committee.weight2 + committee.bias2
                losses = functional.cross_entropy(logits.flatten(0, 1), targets, reduction="none").view(members, pixels)
                loss = (losses * weights).sum()
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield float(loss.detach()) / members
    finally:
        for parameter in committee.parameters():
            parameter.requires_grad_(False)


def _dropped(values: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    kept = torch.empty_like(values).bernoulli_(1 - rate, generator=generator)
    return values * kept / (1 - rate)


def _weigh_heads(readout: Readout, rows: Rows, left_out: Tensor, weights: Tensor) -> None:
    """Choose how much the heads' opinion counts: what explains paint best to members that were not fitted to it."""
    seen_by = left_out.float()
    seen_by = torch.where(seen_by.sum(dim=0) > 0, seen_by, 1.0)
    losses = []
    for share in _HEADS_SHARES:
        readout.heads_share.fill_(share)
        found = readout.members(rows.filters, rows.context, rows.logits).gather(2, rows.classes.expand(MEMBERS, -1)[..., None])
        mean = (found[..., 0] * seen_by).sum(dim=0) / seen_by.sum(dim=0)
        losses.append(float(-(mean.clamp_min(1e-12).log() * weights.sum(dim=0)).sum()))
    readout.heads_share.fill_(_HEADS_SHARES[losses.index(min(losses))])
