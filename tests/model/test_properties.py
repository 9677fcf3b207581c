"""What must hold for any weights: nothing leaks, order and batch-mates do not matter, any size works."""

from __future__ import annotations

import pytest
import torch
from affmae_kernels import _dispatch
from torch.nn import functional

from napari_affmae import MaskedAutoencoder, ModelConfig, Segmenter
from napari_affmae.errors import ConfigError, DataError
from napari_affmae.model.masking import pad_to_patches, patchify, unpatchify
from napari_affmae.model_config import PresetName

SMALL = {
    "patch_size": 4,
    "embed_dims": (16, 24, 32, 40),
    "depths": (1, 1, 2, 1),
    "num_heads": (2, 2, 4, 4),
    "neighbourhood": (16, 16, 16, 16),
    "decoder_dim": 32,
    "decoder_heads": 2,
}


def config(**changes: object) -> ModelConfig:
    return ModelConfig.model_validate({**SMALL, **changes})


def mae(seed: int = 0, **changes: object) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    return MaskedAutoencoder(config(**changes)).eval()


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def half(batch: int, patches: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(patches, generator=generator) for _ in range(batch)])
    return order[:, : patches // 2], order[:, patches // 2 :]


@pytest.mark.parametrize("side", [40, 41, 42])  # whole patches, and padding that reflects the patch before the last
@pytest.mark.parametrize("merging", ["cluster", "l2norm"])
def test_hidden_pixels_have_no_influence(merging: str, side: int) -> None:
    model = mae(merging=merging)
    visible, hidden = half(2, (-(-side // 4)) ** 2)
    picture = images(2, 1, side, side).requires_grad_()
    output = model(picture, visible, hidden)
    for name, prediction in output.predictions.items():
        (gradient,) = torch.autograd.grad(prediction.square().sum(), picture, retain_graph=True)
        patches = patchify(functional.pad(gradient, (0, -side % 4, 0, -side % 4)), 4).abs()
        rows = torch.arange(2).unsqueeze(1)
        assert torch.count_nonzero(patches[rows, hidden]) == 0, name
        seen = patches[rows, visible].amax(dim=-1)
        assert (seen > 0).float().mean() > 0.9, name


@pytest.mark.parametrize("merging", ["cluster", "l2norm"])
@torch.no_grad()
def test_order_of_ids_never_matters(merging: str) -> None:
    model = mae(merging=merging)
    visible, hidden = half(2, 100)
    picture = images(2, 1, 40, 40)
    output = model(picture, visible, hidden)
    shuffle_v, shuffle_h = torch.randperm(50), torch.randperm(50)
    other = model(picture, visible[:, shuffle_v], hidden[:, shuffle_h])
    assert torch.equal(output.loss, other.loss)
    for name in output.predictions:
        assert torch.equal(output.predictions[name][:, shuffle_h], other.predictions[name])
    for ours, theirs in zip(output.decoder_features, other.decoder_features, strict=True):
        assert torch.equal(ours[:, shuffle_h], theirs)


@pytest.mark.parametrize("merging", ["cluster", "l2norm"])
@torch.no_grad()
def test_batch_mates_never_matter(merging: str) -> None:
    model = mae(merging=merging).double()
    picture = images(3, 1, 40, 40).double()
    # Without a visible patch in the last column of image 0, a code scaled by the batch would differ between the two calls.
    column = torch.arange(100) % 10
    left = torch.arange(100)[column < 5]
    visible = torch.stack((left, *half(2, 100)[0]))
    together = model(picture, visible)
    for image in range(3):
        alone = model(picture[image : image + 1], visible[image : image + 1])
        for name in alone.predictions:
            torch.testing.assert_close(together.predictions[name][image], alone.predictions[name][0], atol=1e-10, rtol=0)

    reference = mae(merging=merging, position_code="batch").double()
    reference.load_state_dict(model.state_dict())
    differs = reference(picture, visible).predictions["res2"][0] - reference(picture[:1], visible[:1]).predictions["res2"][0]
    assert differs.abs().max() > 1e-6, "the position code of the reference does depend on batch-mates"


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (4, 4), (17, 29), (64, 16), (41, 40)])
@pytest.mark.parametrize(("channels", "code"), [(1, "grid"), (2, "batch"), (3, "grid")])
def test_any_size_and_channels(size: tuple[int, int], channels: int, code: str) -> None:
    model = mae(in_channels=channels, position_code=code)
    output = model(images(2, channels, *size))
    h, w = -(-size[0] // 4), -(-size[1] // 4)
    assert output.visible_ids.shape[1] + output.hidden_ids.shape[1] == h * w
    assert output.loss.isfinite()
    output.loss.backward()
    torch.manual_seed(0)
    segmented = Segmenter(config(in_channels=channels, position_code=code), 3).eval()(images(2, channels, *size))
    assert segmented.logits.shape == (2, 3, *size)
    assert {value.shape for value in segmented.aux.values()} == {(2, 3, *size)}


@torch.no_grad()
def test_padding_stays_out_of_the_loss() -> None:
    model = mae()
    picture = images(1, 1, 14, 13)
    output = model(picture)
    wanted = []
    prediction = torch.zeros(1, 16, 16)
    prediction[:, output.hidden_ids[0]] = output.predictions["res2"][0]
    hidden = torch.zeros(1, 16, 16)
    hidden[:, output.hidden_ids[0]] = 1
    predicted, mask = (unpatchify(values, 4, (4, 4))[0, 0, :14, :13] for values in (prediction, hidden))
    wanted = ((predicted - picture[0, 0]).square() * mask).sum() / mask.sum()
    torch.testing.assert_close(output.losses["res2"], wanted)


@torch.no_grad()
def test_reflection_matches_numpy() -> None:
    import numpy as np

    for height, width in [(1, 5), (2, 9), (3, 3), (7, 8)]:
        picture = images(1, 2, height, width)
        padded = pad_to_patches(picture, 8)
        pad = [(0, 0), (0, 0), (0, padded.shape[2] - height), (0, padded.shape[3] - width)]
        wanted = np.pad(picture.numpy(), pad, mode="reflect") if min(height, width) > 1 else None
        if wanted is not None:
            assert np.array_equal(padded.numpy(), wanted)
        assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0


def test_patchify_round_trip() -> None:
    picture = images(2, 3, 16, 24)
    patches = patchify(picture, 8)
    assert torch.equal(unpatchify(patches, 8, (2, 3)), picture)
    assert torch.equal(patches[1, 4].view(8, 8, 3)[2, 5], picture[1, :, 8 + 2, 8 + 5])  # row, column, channel


@torch.no_grad()
def test_two_models_of_different_size_coexist() -> None:
    first, second = mae(seed=1), mae(seed=2, patch_size=8, embed_dims=(32, 48, 64, 80), in_channels=2)
    before = first(images(2, 1, 40, 40), *half(2, 100)).loss
    second(images(3, 2, 64, 48))
    assert torch.equal(before, first(images(2, 1, 40, 40), *half(2, 100)).loss)


@torch.no_grad()
def test_predictions_of_some_patches_only() -> None:
    model = mae()
    visible, hidden = half(2, 100)
    output = model(images(2, 1, 40, 40), visible, hidden[:, :7])
    assert output.predictions["res2"].shape == (2, 7, 16)
    only_hidden = model(images(2, 1, 40, 40), hidden_ids=hidden)
    assert torch.equal(only_hidden.visible_ids, visible.sort(dim=1).values)


def test_mask_follows_the_generator() -> None:
    model = mae()
    draws = [model(images(4, 1, 64, 64), generator=torch.Generator().manual_seed(s)).visible_ids for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_every_parameter_learns() -> None:
    model = mae().train()
    model(images(4, 1, 64, 64)).loss.backward()
    idle = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == []


def test_segmenter_starts_from_the_pretrained_weights() -> None:
    pretrained = mae()
    model = Segmenter.from_pretrained(pretrained, 4)
    ours, theirs = model.state_dict(), pretrained.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("heads."))
    assert ours["heads.res2.linear.weight"].shape == (64, 32)


@pytest.mark.parametrize(("name", "millions"), [("tiny", (2.5, 3.5)), ("small", (20.5, 23)), ("base", (60, 66))])
def test_presets_have_the_paper_s_sizes(name: str, millions: tuple[float, float]) -> None:
    with torch.device("meta"):
        count = sum(value.numel() for value in MaskedAutoencoder(ModelConfig.preset(name)).parameters()) / 1e6
    assert millions[0] <= count <= millions[1], count


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
@torch.no_grad()
def test_all_of_a_preset_is_within_the_limits_of_the_kernels(name: PresetName, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing of it runs in PyTorch on a card that has kernels."""
    obstacles: set[str | None] = set()
    monkeypatch.setattr(_dispatch, "_insist", lambda _, obstacle: obstacles.add(obstacle))
    no_card = "the kernels need a CUDA device, the tensors are on cpu"
    MaskedAutoencoder(ModelConfig.preset(name, depths=(1, 1, 1, 1)))(images(1, 1, 256, 256))
    assert obstacles == {no_card}
    MaskedAutoencoder(ModelConfig.preset(name, depths=(1, 1, 1, 1), neighbourhood=(128,) * 4))(images(1, 1, 256, 256))
    assert obstacles == {no_card, "16 sites per point; the kernel keeps at most 8"}


def test_wrong_inputs_say_what_to_do() -> None:
    model = mae()
    with pytest.raises(DataError, match=r"images must be \[B, 1, H, W\] for this network, got \[1, 3, 8, 8\]"):
        model(images(1, 3, 8, 8))
    with pytest.raises(DataError, match="different raster ids from 0 to 3"):
        model(images(1, 1, 8, 8), torch.tensor([[0, 0]]))
    with pytest.raises(DataError, match="different raster ids"):
        model(images(1, 1, 8, 8), torch.tensor([[0, 4]]))
    both = torch.tensor([[0, 3]])
    with pytest.raises(DataError, match="hidden_ids must leave a patch visible"):
        model(images(1, 1, 8, 8), hidden_ids=torch.arange(4).unsqueeze(0))
    with pytest.raises(DataError, match="hidden_ids must not name a visible patch"):
        model(images(1, 1, 8, 8), both, both[:, 1:])
    with pytest.raises(ConfigError, match="at least 2 classes"):
        Segmenter(config(), 1)
