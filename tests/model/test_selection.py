"""Which tokens survive a merge: the best of the whole image, or of each neighbourhood."""

from __future__ import annotations

import torch

from napari_affmae.model.geometry import grid_positions
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.merging import above_neighbours
from napari_affmae.model.neighbourhood import Neighbourhood
from napari_affmae.model_config import ModelConfig


def grid_neighbourhood(side: int, neighbourhood: int) -> Neighbourhood:
    places = grid_positions(side, side, torch.device("cpu"), torch.float32)[None]
    return Neighbourhood.arrange(torch.zeros(1, side**2, 1), places, 8, neighbourhood, (side, side))[1]


def test_it_is_the_difference_to_the_mean_of_the_attended_tokens() -> None:
    around = grid_neighbourhood(9, 24)  # 81 tokens: the last cluster is short
    values = torch.randn(1, 81, dtype=torch.float64)
    above = above_neighbours(values, around)
    for token in (0, 17, 80):
        members = [8 * cluster + i for cluster in around.clusters[0, token].tolist() for i in range(8) if 8 * cluster + i < 81]
        torch.testing.assert_close(above[0, token], values[0, token] - values[0, members].mean())


def test_a_ramp_empties_half_of_the_image_globally_and_nothing_locally() -> None:
    around = grid_neighbourhood(32, 64)
    column = around.positions[0, :, 0]
    texture = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0))
    values = column / 2 + texture

    def left(rank: torch.Tensor) -> float:
        best = rank[0].argsort(descending=True)[:409]
        return (column[best] < 16).float().mean().item()

    assert left(values) < 0.05
    assert 0.35 < left(above_neighbours(values, around)) < 0.65


def test_the_network_takes_the_choice_and_keeps_its_weights() -> None:
    sizes = {"embed_dims": (8, 12, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "decoder_dim": 16}
    plain = ModelConfig(**sizes, decoder_heads=2, neighbourhood=(16,) * 4)
    torch.manual_seed(0)
    networks = [MaskedAutoencoder(plain.replace(selection=name)).eval() for name in ("global", "local")]
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(2, 1, 128, 96)
    everywhere, nearby = (network.features(images).stages for network in networks)
    assert torch.equal(everywhere[0].tokens, nearby[0].tokens)
    for one, other in zip(everywhere, nearby, strict=True):
        assert one.positions_xy.shape == other.positions_xy.shape
    assert not torch.equal(everywhere[1].positions_xy, nearby[1].positions_xy)
    alone = networks[1].features(images[:1]).stages
    torch.testing.assert_close(alone[-1].positions_xy, nearby[-1].positions_xy[:1])
