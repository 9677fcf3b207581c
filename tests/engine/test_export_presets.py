"""The sizes that people use export, too: small and base, with weights that nobody trained."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from napari_affmae import ModelConfig, Segmenter, save_model
from napari_affmae.card import ClassInfo, ModelCard, Normalisation
from napari_affmae.config import ExportConfig
from napari_affmae.engine.export import ExportResult, export
from napari_affmae.events import Done
from napari_affmae.model.portable import PortableSegmenter, to_torchscript
from napari_affmae.model_config import PresetName
from napari_affmae.zoo import why_not_export

TILE = 128
STATISTICS = Normalisation(low=(0.0,), high=(250.0,), mean=(100.0,), std=(40.0,))
# The Zoo's library, and the recorder of torch, have opinions of their own about warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


def scratch(preset: PresetName) -> Segmenter:
    torch.manual_seed(0)
    network = Segmenter(ModelConfig.preset(preset), 2)
    classes = (ClassInfo(id=1, name="background", color="#0072b2"), ClassInfo(id=2, name="cell", color="#e69f00"))
    network.card = ModelCard(normalisation=STATISTICS, classes=classes, tile=TILE)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["small", "base"])
def test_the_record_does_what_the_network_does(preset: PresetName) -> None:
    network = scratch(preset)
    record = torch.jit.load(io.BytesIO(to_torchscript(network, STATISTICS, TILE)))
    image = 250 * torch.rand(1, 1, TILE, TILE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        there, here = record(image), PortableSegmenter(network, STATISTICS).eval()(image)
    assert there.shape == (1, 2, TILE, TILE)
    # Another image than the one it was recorded with: what survives a merge is chosen anew, not written down.
    torch.testing.assert_close(there, here, atol=1e-5, rtol=1e-4)
    assert here.std() > 1e-3, "says something"


@pytest.mark.skipif(why_not_export() is not None, reason=f"{why_not_export()}")
@pytest.mark.slow
def test_a_package_passes_the_zoo_s_test(tmp_path: Path) -> None:
    path = save_model(scratch("small"), tmp_path / "model.safetensors")
    *_, done = export(path, tmp_path / "package.zip", ExportConfig())
    assert isinstance(done, Done)
    assert isinstance(done.result, ExportResult)
    assert done.result.check is not None
    assert done.result.check.passed
    assert done.result.tile == TILE
