"""The masked autoencoder: hide patches, encode the others, predict what was hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import DataError
from ..model_config import ModelConfig
from .encoder import Stage
from .masking import complement, draw_mask, patchify
from .network import Network
from .patch_embedding import enlarge, gather_tokens, visible_grid

LOSS_WEIGHTS = {"res5": 0.05, "res4": 0.12, "res2": 1.0}
"""Deep supervision: without the two auxiliary losses the deepest stage collapses (paper, effective rank)."""


@dataclass(frozen=True)
class MAEOutput:
    """What :class:`MaskedAutoencoder` returns.

    Attributes
    ----------
    loss
        Scalar: ``res2 + 0.12 · res4 + 0.05 · res5``.
    losses
        Mean squared error on hidden pixels per head, ``res5``, ``res4``, ``res2``.
    predictions
        Per head ``[B, hidden, p·p·C]`` in the order of ``hidden_ids``; a patch is ordered row, column, channel.
    visible_ids, hidden_ids
        int64 ``[B, visible]`` and ``[B, hidden]``, raster ids, as given or drawn.
    stages
        Four encoder stages, shallow to deep.
    decoder_features
        Four tensors ``[B, hidden, decoder_dim]`` in the order of ``hidden_ids``.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    predictions: dict[str, Tensor]
    visible_ids: Tensor
    hidden_ids: Tensor
    stages: list[Stage]
    decoder_features: list[Tensor]


class MaskedAutoencoder(Network):
    """AFFMAE: a hierarchical transformer on adaptive tokens, pretrained by masked autoencoding (arXiv 2602.16249).

    Parameters
    ----------
    config
        Sizes and choices; two models of different sizes live side by side.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, config.prediction_dim)

    def forward(
        self,
        images: Tensor,
        visible_ids: Tensor | None = None,
        hidden_ids: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> MAEOutput:
        """Predict hidden patches from visible ones.

        Parameters
        ----------
        images
            Normalised images ``[B, C, H, W]`` of any size; reflected at the bottom and right to whole patches. What is added
            stays out of the loss and shows nothing of hidden patches.
        visible_ids, hidden_ids
            int64 raster ids ``[B, k]`` of visible patches and of patches to predict, none in both, in any order, which changes
            nothing but the order of the predictions. Without ``visible_ids`` a mask is drawn; ``hidden_ids`` default to the
            other patches.
        generator
            Source of randomness for a drawn mask.

        Raises
        ------
        DataError
            If the channels do not fit, or ids are outside the grid, repeat, are given for another batch size, are both visible
            and hidden, or leave no patch visible.
        """
        self._check_images(images)
        grid = self.config.grid(*images.shape[-2:])
        patches = grid[0] * grid[1]
        if visible_ids is None:
            if hidden_ids is not None:
                hidden_ids = _checked("hidden_ids", hidden_ids, images, patches)
                if hidden_ids.shape[1] == patches:
                    raise DataError(f"hidden_ids must leave a patch visible, got all {patches} of this image")
                visible_ids = complement(hidden_ids, patches)
            else:
                config = self.config
                visible_ids, hidden_ids = draw_mask(
                    images.shape[0], grid, config.mask_ratio, config.mask_kind, images.device, generator
                )
        else:
            visible_ids = _checked("visible_ids", visible_ids, images, patches)
            if hidden_ids is None:
                hidden_ids = complement(visible_ids, patches)
            else:
                hidden_ids = _checked("hidden_ids", hidden_ids, images, patches)
                if bool(visible_grid(visible_ids, grid).flatten(1).gather(1, hidden_ids).any()):
                    raise DataError("hidden_ids must not name a visible patch: its own pixels would predict it")

        # Inside, ids are in raster order, so that the order of arrival cannot matter; results go back in the caller's order.
        hidden, asked = hidden_ids.sort(dim=1)
        output = self._autoencode(images, visible_ids.sort(dim=1).values, hidden)
        back = asked.argsort(dim=1)
        return replace(
            output,
            predictions={name: gather_tokens(values, back) for name, values in output.predictions.items()},
            visible_ids=visible_ids,
            hidden_ids=hidden_ids,
            decoder_features=[gather_tokens(values, back) for values in output.decoder_features],
        )

    def training_loss(self, images: Tensor, visible_ids: Tensor, hidden_ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``loss`` and ``losses`` of :meth:`forward` alone, for ids as :func:`draw_mask` returns them.

        The ids must be ascending and cover the grid; nothing is checked and nothing is read back from the device, so that
        a training step can be captured in a CUDA graph.
        """
        output = self._autoencode(images, visible_ids, hidden_ids)
        return output.loss, output.losses

    def _autoencode(self, images: Tensor, visible_ids: Tensor, hidden_ids: Tensor) -> MAEOutput:
        """Predict the hidden patches from the visible ones; ids are valid and ascending."""
        padded = self._padded(images)
        height, width = images.shape[-2:]
        grid = self.config.grid(height, width)
        seen = padded
        if padded.shape != images.shape:  # what is reflected into a visible patch may come from a hidden one
            visible = enlarge(visible_grid(visible_ids, grid), self.config.patch_size)[:, None, :height, :width]
            seen = self._padded(images * visible)
        stages, decoded = self._run(seen, grid, visible_ids, hidden_ids)
        predictions = self._predict(decoded)
        losses = self._losses(predictions, padded, hidden_ids, (height, width))
        total = sum((LOSS_WEIGHTS[name] * loss for name, loss in losses.items()), start=padded.new_zeros(()))
        return MAEOutput(total, losses, predictions, visible_ids, hidden_ids, stages, decoded)

    def _losses(
        self, predictions: dict[str, Tensor], padded: Tensor, hidden: Tensor, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Mean squared error over the hidden pixels that are not padding."""
        real = torch.zeros_like(padded)
        real[..., : size[0], : size[1]] = 1
        target = gather_tokens(patchify(padded, self.config.patch_size), hidden)
        weight = gather_tokens(patchify(real, self.config.patch_size), hidden)
        pixels = weight.sum().clamp_min(1)
        return {
            name: ((values.to(target.dtype) - target).square() * weight).sum() / pixels for name, values in predictions.items()
        }


def _checked(name: str, ids: Tensor, images: Tensor, patches: int) -> Tensor:
    """Check ids given by a caller; reads them back, which a drawn mask never needs."""
    if ids.dim() != 2 or ids.shape[0] != images.shape[0] or not 1 <= ids.shape[1] <= patches:
        raise DataError(
            f"{name} must be int64 [{images.shape[0]}, k] with 1 <= k <= {patches} patches of this image, got {list(ids.shape)}"
        )
    ids = ids.to(images.device, torch.int64)
    ordered = ids.sort(dim=1).values
    if ordered[:, 0].min() < 0 or ordered[:, -1].max() >= patches or bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        raise DataError(f"{name} must be different raster ids from 0 to {patches - 1} for this image size")
    return ids
