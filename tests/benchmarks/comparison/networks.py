"""The networks that ours is compared with: a plain vision transformer, pretrained or not, and a U-Net."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from napari_affmae.bench.vit_mae import PATCH, SIZES, VitMAE, VitSizes
from napari_affmae.model.masking import unpatchify

ALL_SIZES = {**SIZES, "tiny": VitSizes(192, 6, 3, 128, 2, 4)}
"""Networks next to our presets, by about equal parameters."""

ENCODER_DEPTHS = 4
"""Groups that the blocks of the encoder are put into for learning rates by depth: as many as ours has stages."""


class VitSegmenter(nn.Module):
    """The encoder and the decoder of :class:`~napari_affmae.bench.vit_mae.VitMAE` on all patches, and classes per pixel.

    Parameters
    ----------
    mae
        Where to start from; its parameters become those of the segmenter.
    num_classes
        K.
    """

    def __init__(self, mae: VitMAE, num_classes: int) -> None:
        super().__init__()
        self.mae = mae
        self.head = nn.Linear(mae.sizes.decoder_dim, PATCH**2 * num_classes)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K, H, W]`` of images ``[B, 1, H, W]``, both sides multiples of the patch."""
        grid = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        return unpatchify(self.head(self.mae.features(images)), PATCH, grid)

    def by_depth(self) -> list[list[nn.Parameter]]:
        """Return all parameters, from input to output, in groups that match those of our network."""
        mae = self.mae
        ends = [round(len(mae.blocks) * part / ENCODER_DEPTHS) for part in range(ENCODER_DEPTHS + 1)]
        groups: list[Sequence[nn.Module]] = [[mae.embedding]]
        groups += [list(mae.blocks)[start:end] for start, end in itertools.pairwise(ends)]
        groups += [[mae.norm, mae.to_decoder, mae.decoder, mae.decoder_norm], [self.head]]
        return [[parameter for module in group for parameter in module.parameters()] for group in groups]


def new_vit_mae(preset: str, channels: int, seed: int) -> VitMAE:
    """Return a fresh ViT-MAE next to a preset of ours; linear layers Xavier uniform, as in the paper of MAE."""
    torch.manual_seed(seed)
    mae = VitMAE(ALL_SIZES[preset], channels)
    for layer in _linear(mae):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.normal_(mae.mask_token, std=0.02)
    return mae


def new_unet(channels: int, num_classes: int, seed: int, norm: str | None = None) -> nn.Module:
    """Return MONAI's ``BasicUNet`` at its default width, 32 to 256 channels on five levels; its instance norm, or another."""
    from monai.networks.nets import BasicUNet

    torch.manual_seed(seed)
    chosen = {} if norm is None else {"norm": norm}
    network: nn.Module = BasicUNet(spatial_dims=2, in_channels=channels, out_channels=num_classes, **chosen)
    return network


def _linear(module: nn.Module) -> Iterator[nn.Linear]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Linear))
