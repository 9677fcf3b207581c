"""What is recorded as TorchScript does what the network does, on images that it was not recorded from."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_affmae import ModelConfig, Segmenter
from napari_affmae.card import Normalisation
from napari_affmae.data.normalisation import apply
from napari_affmae.data.synthetic import synthetic_em
from napari_affmae.errors import AffmaeError
from napari_affmae.model.portable import to_torchscript
from napari_affmae.model.readout import Readout

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")

STATISTICS = Normalisation(low=(5.0, 0.0), high=(240.0, 200.0), mean=(120.0, 90.0), std=(40.0, 30.0))


def micro(**changes: Any) -> ModelConfig:
    sizes = {"patch_size": 4, "embed_dims": (8, 12, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    rest = {"neighbourhood": (16, 16, 16, 16), "decoder_dim": 16, "decoder_heads": 2, "in_channels": 2}
    return ModelConfig(**{**sizes, **rest, **changes})


def segmenter(config: ModelConfig, kind: type[Segmenter] = Segmenter) -> Segmenter:
    torch.manual_seed(0)
    model = kind(config, 3)
    with torch.no_grad():  # sampling points off the lattice and scores apart, as training leaves them
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize(
    ("tile", "changes"),
    [(64, {}), (44, {"merging": "l2norm"}), (64, {"position_code": "batch", "neighbourhood": (24, 300, 8, 8)})],
)
@torch.no_grad()
def test_the_record_follows_other_images(tile: int, changes: dict[str, Any]) -> None:
    model = segmenter(micro(**changes))
    recorded = torch.jit.load(io.BytesIO(to_torchscript(model, STATISTICS, tile)))
    for seed in range(3):
        raw = np.stack([synthetic_em(tile, seed)[0], synthetic_em(tile, seed + 10)[0]], axis=-1)
        expected = model(torch.from_numpy(apply(raw, STATISTICS))[None]).logits.softmax(1)
        image = torch.from_numpy(raw).permute(2, 0, 1)[None].float()
        for _ in range(3):  # TorchScript rewrites itself after a run or two
            assert (recorded(image) - expected).abs().max() < 1e-5


@torch.no_grad()
def test_the_record_of_a_live_model_holds_its_readout() -> None:
    model = segmenter(micro())
    readout = Readout(model.config, 3)
    readout.filters.feature.random_(4)
    readout.filters.leaves.uniform_()
    for tensor in (*readout.parameters(), readout.basis, readout.filters.threshold):
        tensor.copy_(0.3 * torch.randn_like(tensor))
    readout.heads_share.fill_(0.5)
    heads_only = to_torchscript(model, STATISTICS, 48)
    model.readout = readout.eval()
    recorded, without = (torch.jit.load(io.BytesIO(data)) for data in (to_torchscript(model, STATISTICS, 48), heads_only))
    raw = np.stack([synthetic_em(48, 1)[0], synthetic_em(48, 2)[0]], axis=-1)
    expected = model(torch.from_numpy(apply(raw, STATISTICS))[None]).logits.softmax(1)
    image = torch.from_numpy(raw).permute(2, 0, 1)[None].float()
    assert (recorded(image) - expected).abs().max() < 1e-5
    assert (without(image) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("live", [False, True])
def test_the_record_remembers_no_device(live: bool) -> None:
    model = segmenter(micro())
    model.readout = Readout(model.config, 3).eval() if live else None
    recorded = torch.jit.load(io.BytesIO(to_torchscript(model, STATISTICS, 32)))
    graph = recorded.inlined_graph
    constants = graph.findAllNodes("prim::Constant")
    assert constants
    assert not [node for node in constants if node.output().type().kind() == "DeviceObjType"]
    # Counts of a shape are tensors of the host in a trace; repeats that are one would make indices there.
    for node in graph.findAllNodes("aten::repeat_interleave"):
        assert list(node.inputs())[1].type().kind() != "TensorType"


def test_a_network_that_looks_at_its_input_from_outside_is_refused() -> None:
    class Stubborn(Segmenter):
        def forward(self, images: Tensor) -> Any:
            return super().forward(images * float(images.abs().mean()))

    with pytest.raises(AffmaeError, match=r"differs from this one by .* on other images"):
        to_torchscript(segmenter(micro(), Stubborn), STATISTICS, 32)


def test_recording_leaves_the_network_as_it_was() -> None:
    model = segmenter(micro()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    to_torchscript(model, STATISTICS, 32)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
