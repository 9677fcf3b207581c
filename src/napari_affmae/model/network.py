"""What the masked autoencoder and the segmenter share: patch embedding, encoder, decoder and three heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..card import ModelCard
from ..errors import DataError
from ..model_config import ModelConfig
from .decoder import Decoder
from .encoder import Encoder, Stage
from .geometry import grid_positions
from .initialisation import initialise
from .linear import Linear
from .masking import pad_to_patches
from .norm import Norm
from .patch_embedding import PatchEmbedding, gather_tokens, visible_grid


@dataclass(frozen=True)
class Features:
    """What the network makes of whole images, nothing hidden.

    Attributes
    ----------
    stages
        Four encoder stages, shallow to deep.
    decoder_features
        Four results ``[B, h·w, decoder_dim]`` of the decoder, at every patch in raster order; the last one feeds the main head.
    grid
        ``(h, w)`` patches, padding included.
    """

    stages: list[Stage]
    decoder_features: list[Tensor]
    grid: tuple[int, int]


class Head(nn.Module):
    """LayerNorm and a linear layer from decoder features to one patch."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = Norm(dim)
        self.linear = Linear(dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[B, q, D]`` to patches ``[B, q, out_dim]``."""
        output: Tensor = self.linear(self.norm(features))
        return output


class Network(nn.Module):
    """Base of both models. ``model.card`` holds what travels with the weights; nothing here reads it."""

    def __init__(self, config: ModelConfig, head_dim: int) -> None:
        super().__init__()
        self.config = config
        self.card = ModelCard()
        self.patch_embedding = PatchEmbedding(config.in_channels, config.embed_dims[0], config.patch_size)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.heads = nn.ModuleDict({name: Head(config.decoder_dim, head_dim) for name in ("res5", "res4", "res2")})
        initialise(self)

    def features(self, images: Tensor) -> Features:
        """Encode whole images ``[B, C, H, W]`` and decode at every patch.

        Raises
        ------
        DataError
            If the images are not ``[B, C, H, W]`` with the channels that the network was built for.
        """
        padded = self._padded(images)
        grid = self.config.grid(*images.shape[-2:])
        stages, decoded = self._run(padded, grid, None, None)
        return Features(stages, decoded, grid)

    def _padded(self, images: Tensor) -> Tensor:
        self._check_images(images)
        return pad_to_patches(images, self.config.patch_size)

    def _check_images(self, images: Tensor) -> None:
        channels = self.config.in_channels
        if images.dim() != 4 or images.shape[1] != channels or 0 in images.shape:
            raise DataError(
                f"images must be [B, {channels}, H, W] for this network, got {list(images.shape)}: "
                "choose as many channels as the model was made for, or make a model for these"
            )

    def _run(
        self, padded: Tensor, grid: tuple[int, int], visible_ids: Tensor | None, query_ids: Tensor | None
    ) -> tuple[list[Stage], list[Tensor]]:
        """Encode the visible patches and decode at the queries; None stands for all patches. Ids are ascending."""
        batch = padded.shape[0]
        place_dtype = torch.float64 if padded.dtype == torch.float64 else torch.float32
        places = grid_positions(*grid, padded.device, place_dtype).expand(batch, -1, 2)
        if visible_ids is None:
            tokens, token_places = self.patch_embedding(padded, None), places
        else:
            tokens = gather_tokens(self.patch_embedding(padded, visible_grid(visible_ids, grid)), visible_ids)
            token_places = gather_tokens(places, visible_ids)
        stages = self.encoder(tokens, token_places, grid)
        query_places = places if query_ids is None else gather_tokens(places, query_ids)
        return stages, self.decoder(stages, query_places, grid)

    def _predict(self, decoded: list[Tensor]) -> dict[str, Tensor]:
        """Apply the heads: the deepest block's, the second's and the last block's features."""
        sources = {"res5": decoded[0], "res4": decoded[1], "res2": decoded[3]}
        return {name: self.heads[name](features) for name, features in sources.items()}
