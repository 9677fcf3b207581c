"""One optimisation step: forward, backward, clipping, AdamW; recorded and replayed where that is possible."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .device import narrow_copies
from .recording import Repeated, Tensors

Measured = dict[str, Tensor]
"""Scalars of a step on its device, float32: ``loss``, the parts of the loss, and ``left out``, 1 where nothing was learned."""

LEFT_OUT = "left out"


class TrainingStep:
    """A training step of a network; :class:`~napari_affmae.engine.recording.Repeated` says how it is made on a graphics card.

    Parameters
    ----------
    model
        The network; it stays on its device, and its parameters stay where they are.
    loss
        Returns the loss of (part of) a batch and its parts before weighting. Depends on nothing but its argument, the
        parameters and torch's default generator.
    optimizer
        As :func:`~napari_affmae.engine.optimizer.make_optimizer` makes it.
    fabric
        Decides the precision.
    clip
        Norm that gradients are clipped to.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensors], tuple[Tensor, dict[str, Tensor]]],
        optimizer: torch.optim.Optimizer,
        fabric: Fabric,
        clip: float,
    ) -> None:
        self._passes = 1
        self._model = model
        self._loss = loss
        self._optimizer = optimizer
        self._fabric = fabric
        self._clip = clip
        self._device = next(model.parameters()).device
        self._step = Repeated(self._make, self._try_out, self._device)

    def __call__(self, tensors: Tensors, passes: int = 1) -> Measured:
        """Make a step on a batch of tensors on the device, batch axis first.

        A step whose loss or gradient is not finite changes nothing. On a graphics card the results are overwritten by the next
        step, and nothing waits for them here.

        Parameters
        ----------
        passes
            Parts that the batch is cut into, one after the other, to fit into memory. Their gradients are added, each
            by its share of the tiles, which is the same step for a loss that is a mean over tiles.
        """
        self._model.train()
        if passes != self._passes:
            self._passes = passes
            self._step.forget()
        return self._step(tensors)

    def forget(self) -> None:
        """Give back the memory of a step that failed; the next call starts afresh."""
        self._step.forget()
        self._forget_gradients()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _try_out(self, tensors: Tensors) -> None:
        self._gradients(tensors)
        self._forget_gradients()

    def _make(self, tensors: Tensors) -> Measured:
        measured = self._gradients(tensors)
        strategy = self._fabric.strategy
        norm = strategy.clip_gradients_norm(self._model, self._optimizer, max_norm=self._clip, error_if_nonfinite=False)
        fused = self._optimizer.defaults["fused"]
        # Float16 scaling makes gradients overflow on purpose, and leaves such steps out by itself.
        left_out = (~torch.isfinite(measured["loss"] + norm if fused else measured["loss"])).float()
        if fused:
            # The same flag that torch's GradScaler sets: the fused step leaves everything as it is where it is 1. Deciding on
            # the device saves asking it once per step.
            self._optimizer.found_inf = left_out  # type: ignore[attr-defined]
        strategy.optimizer_step(self._optimizer)
        self._forget_gradients()
        return {**measured, LEFT_OUT: left_out}

    def _gradients(self, tensors: Tensors) -> Measured:
        measured: Measured = {}
        whole = tensors[0].shape[0]
        for part in zip(*(tensor.chunk(self._passes) for tensor in tensors), strict=True):
            share = part[0].shape[0] / whole
            with self._fabric.autocast(), narrow_copies(self._model):
                loss, parts = self._loss(part)
            self._fabric.backward(loss * share)
            for name, value in {"loss": loss, **parts}.items():
                measured[name] = measured.get(name, 0) + share * value.detach().float()
        return measured

    def _forget_gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
