"""What a live session learned can be undone, however often it was refined, and is saved as the readout was fitted to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_affmae.config import LiveConfig
from napari_affmae.data.classes import default_classes
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine.device import resolve_device
from napari_affmae.engine.finetune import started_card
from napari_affmae.engine.live_network import LiveNetwork
from napari_affmae.model.model_file import load_model
from napari_affmae.model.readout import Readout
from napari_affmae.model.segmenter import Segmenter

CLASSES = default_classes((1, 2))
CONFIG = LiveConfig(tile=32, fine_steps=2, device="cpu")


@pytest.fixture
def examples(blobs):
    records = collection_from_arrays({"one": blobs[0]}).records
    return [LabelledImage(records[0], (blobs[1] + 1).astype(np.uint8))]


@pytest.fixture
def network(micro, blobs):
    model = Segmenter(micro, 2)
    model.card = started_card(model, CLASSES, collection_from_arrays({"one": blobs[0]}), 32, 0, resolve_device("cpu"))
    return LiveNetwork(model, CONFIG, 32, heads_trained=False)


def refine(network, kept=True):
    with network.attempt() as attempt:
        with torch.no_grad():
            next(network.model.encoder.parameters()).add_(1)
        attempt.kept = kept


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("readout.")}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def learn(network, examples):
    network.learn(Readout(network.model.config, 2), examples, [3, 4])


def test_an_attempt_is_undone_unless_it_is_kept(network):
    began = weights(network.model)
    refine(network, kept=False)
    assert same(began, weights(network.model))
    assert not network.unfitted
    refine(network)
    assert not same(began, weights(network.model))
    assert network.unfitted


def test_an_attempt_that_fails_is_undone(network, examples):
    began = weights(network.model)
    with pytest.raises(KeyError), network.attempt():  # noqa: PT012
        list(network.train(network.sampler(examples)))
        assert not same(began, weights(network.model))
        raise KeyError
    assert same(began, weights(network.model))


@pytest.mark.parametrize("kept", [True, False])
def test_heads_have_an_opinion_once_they_were_trained_and_that_was_kept(network, examples, kept):
    assert not network.knows
    with network.attempt() as attempt:
        list(network.train(network.sampler(examples)))
        assert network.knows, "they are asked how well they do"
        attempt.kept = kept
    assert network.knows == kept


def test_put_back_it_is_what_it_was_before_the_first_refinement(network, examples):
    began = weights(network.model)
    for _ in range(2):
        learn(network, examples)
        refine(network)
    assert network.learned
    assert network.put_back(), "its weights are others now"
    assert same(began, weights(network.model))
    assert network.model.readout is None
    assert not network.learned
    assert network.undone
    assert not network.unsaved
    learn(network, examples)
    assert not network.put_back(), "nothing but the readout was learned"


def test_it_is_saved_with_the_weights_that_its_readout_was_fitted_to(network, examples, tmp_path):
    learn(network, examples)
    fitted = weights(network.model)
    for _ in range(2):
        refine(network)
    now = weights(network.model)
    assert network.unsaved
    assert same(fitted, weights(load_model(network.save(tmp_path / "model.safetensors"))))
    assert same(now, weights(network.model))
    assert not network.unsaved
    learn(network, examples)
    assert same(now, weights(load_model(network.save(tmp_path / "model.safetensors"))))
