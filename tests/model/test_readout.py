"""The readout: single pixels and whole maps agree, filters are what they are called, and a file holds all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_affmae.model.filters import RESPONSES, background_of, filter_responses, smoothed
from napari_affmae.model.model_file import load_model, read_card, save_model
from napari_affmae.model.readout import Readout
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

SIZES = [(32, 48), (21, 13), (5, 90)]


@pytest.fixture
def model() -> Segmenter:
    """A segmenter with a readout of random numbers."""
    torch.manual_seed(0)
    config = ModelConfig(
        patch_size=4, embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), decoder_dim=8, decoder_heads=2
    )
    model = Segmenter(config, 3).eval()
    model.readout = Readout(config, 3)
    for name, value in model.readout.state_dict().items():
        if name == "filters.feature":
            value.copy_(torch.randint(RESPONSES, value.shape))
        elif name == "filters.leaves":
            value.copy_(torch.rand_like(value))
        else:
            value.copy_(torch.randn_like(value) / (8 if name == "basis" else 2))
    model.readout.present.fill_(1)
    model.readout.heads_share.fill_(0.5)
    return model


@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_maps_agree(model: Segmenter, size: tuple[int, int]) -> None:
    with torch.no_grad():
        description = model.describe(torch.randn(1, 1, *size))
        height, width = description.filters.shape[-2:]
        rows, columns = (
            values.flatten() for values in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        )
        alone = model.readout.members(*description.at(rows, columns)).mean(dim=0).T.view(1, 3, height, width)
        # The map is smoothed at last, and knows how frequent classes are.
        expected = smoothed(alone, 1.0).log() + model.readout.log_prior[:, None, None]
        torch.testing.assert_close(model.readout(description), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_a_segmenter_answers_by_its_readout(model: Segmenter, size: tuple[int, int]) -> None:
    images = torch.randn(2, 1, *size)
    with torch.no_grad():
        output = model(images)
        assert output.logits.shape == (2, 3, *size)
        expected = model.readout(model.describe(images))[..., : size[0], : size[1]]
        torch.testing.assert_close(output.logits, expected)
        heads = model.heads_output(images)
        assert not torch.allclose(heads.logits, output.logits)
        model.readout = None
        torch.testing.assert_close(model(images).logits, heads.logits)


def test_a_file_holds_the_readout(model: Segmenter, tmp_path) -> None:
    path = save_model(model, tmp_path / "model.safetensors")
    assert read_card(path).readout
    images = torch.randn(1, 1, 24, 24)
    with torch.no_grad():
        assert torch.equal(load_model(path)(images).logits, model(images).logits)
    model.readout = None
    path = save_model(model, path)
    assert not read_card(path).readout
    assert load_model(path).readout is None


def test_classes_that_were_not_painted_are_never_found_unless_the_heads_know_them(model: Segmenter) -> None:
    images = torch.randn(1, 1, 24, 24)
    model.readout.present[1] = 0
    model.readout.heads_share.zero_()
    with torch.no_grad():
        assert (model(images).logits.argmax(dim=1) != 1).all()
        description = model.describe(images)
        description.logits[:, 1] += 50
        model.readout.heads_share.fill_(1)
        assert (model.readout(description).argmax(dim=1) == 1).all()


@pytest.mark.parametrize("size", [(40, 23), (1, 7), (3, 3)])
@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_smoothing_is_a_gaussian(size: tuple[int, int], sigma: float) -> None:
    image = np.random.default_rng(0).normal(size=size)
    expected = ndimage.gaussian_filter(image, sigma, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(smoothed(torch.from_numpy(image), sigma).numpy(), expected, atol=1e-9)


def test_filters_turn_with_the_image() -> None:
    image = torch.randn(1, 2, 32, 32, dtype=torch.float64)
    found = filter_responses(image)
    assert found.shape == (1, 2 * RESPONSES, 32, 32)
    torch.testing.assert_close(filter_responses(image.rot90(1, (2, 3))), found.rot90(1, (2, 3)))


def test_filters_start_from_the_background(model: Segmenter) -> None:
    """What was painted in one image holds in the next, whose background is brighter, whatever else is in the batch."""
    image = torch.randn(1, 1, 32, 48)
    expected = model.describe(image).filters
    together = model.describe(torch.cat([image, image + 3])).filters
    torch.testing.assert_close(together, expected.repeat(2, 1, 1, 1), rtol=1e-4, atol=1e-4)
    told = model.describe(image, torch.full((1, 1, 1, 1), 5.0)).filters
    torch.testing.assert_close(told, filter_responses(image - 5), rtol=1e-4, atol=1e-4)


def test_the_background_is_found_per_channel() -> None:
    images = torch.arange(64.0).view(1, 1, 1, 64) * torch.tensor([1.0, -2.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(background_of(images).flatten(), torch.tensor([16.0, -88.0]))


def test_a_ridge_shows_in_the_hessian() -> None:
    image = torch.zeros(1, 1, 33, 33)
    image[..., 16] = 1
    found = filter_responses(image)
    assert found[0, 3, 16, 16] < -0.1
    assert found[0, 3].argmin() % 33 == 16


def test_what_was_smoothed_while_predicting_can_be_differentiated_later(model: Segmenter) -> None:
    """Nothing made in inference mode may be left behind for a pass that learns."""
    images = torch.randn(1, 1, 37, 29)  # a size that no other test has smoothed before
    with torch.inference_mode():
        model(images)
    model(images).logits.sum().backward()
    assert all(weight.grad is not None for weight in model.heads["res2"].parameters())
