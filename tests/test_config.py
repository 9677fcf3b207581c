"""Settings: validated when made, the same through JSON, and errors in words."""

from __future__ import annotations

import pytest

from napari_affmae import Budget, FinetuneConfig, ModelConfig, PretrainConfig
from napari_affmae.card import ModelCard, PixelSize
from napari_affmae.errors import ConfigError


@pytest.mark.parametrize(
    "settings",
    [
        ModelConfig.preset("base", in_channels=3, mask_kind="random"),
        PretrainConfig(model=ModelConfig.preset("tiny"), budget=Budget(minutes=2.5)),
        FinetuneConfig(tile=256),
        ModelCard(pixel_size=PixelSize(y=4, x=4, unit="nanometer"), history=({"job": "pretrain"},)),
    ],
)
def test_json_round_trip(settings: ModelConfig) -> None:
    assert type(settings).from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 6}, "patch_size must be a power of two"),
        ({"embed_dims": (48, 96, 192, 250)}, r"embed_dims\[3\] = 250 is not divisible by num_heads\[3\] = 16"),
        ({"decoder_dim": 130}, "decoder_dim = 130 is not divisible by decoder_heads"),
        ({"mask_ratio": 1.0}, "mask_ratio.*less than 1"),
        ({"merging": "average"}, "merging.*'cluster' or 'l2norm'.*got 'average'"),
        ({"depths": (1, 2, 3)}, "depths"),
        ({"ds_rate": 0.4}, "ds_rate.*not permitted"),
        ({"ds_rates": (0.0, 0.4, 0.4, 0.4)}, "ds_rates.0.*greater than 0"),
    ],
)
def test_wrong_model_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.preset("tiny", **changes)


def test_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'huge': choose one of tiny, small, base"):
        ModelConfig.preset("huge")


@pytest.mark.parametrize(("given", "got"), [({}, "none"), ({"steps": 3, "minutes": 1.0}, "steps, minutes")])
def test_exactly_one_budget(given: dict[str, float], got: str) -> None:
    with pytest.raises(ConfigError, match=f"exactly one of steps, epochs or minutes, got {got}"):
        Budget(**given)


def test_settings_are_frozen() -> None:
    config = ModelConfig.preset("tiny")
    with pytest.raises(ValueError, match="frozen"):
        config.patch_size = 4
    assert config.replace(patch_size=4).patch_size == 4
    with pytest.raises(ConfigError, match="power of two"):
        config.replace(patch_size=3)


def test_damaged_json() -> None:
    with pytest.raises(ConfigError, match="ModelConfig"):
        ModelConfig.from_json("{")


def test_grid_covers_the_image() -> None:
    config = ModelConfig.preset("tiny")
    assert config.grid(512, 513) == (64, 65)
    assert config.grid(1, 1) == (1, 1)
