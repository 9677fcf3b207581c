"""An exported package runs in bioimageio.core, in a process that has neither this package nor napari."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import affmae_kernels
import numpy as np
import pytest
import torch

from napari_affmae import ModelConfig, Segmenter, load_model, save_model
from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.config import ExportConfig
from napari_affmae.control import JobControl
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine import export as export_module
from napari_affmae.engine.bioimageio_check import check_package
from napari_affmae.engine.bioimageio_description import _citation as citation
from napari_affmae.engine.export import ExportResult, export
from napari_affmae.errors import AffmaeError, ConfigError, DataError, ModelFileError, StorageError
from napari_affmae.events import Done, Notice, PartBegun
from napari_affmae.model.portable import PortableSegmenter
from napari_affmae.zoo import why_not_export

needs_library = pytest.mark.skipif(why_not_export() is not None, reason=f"{why_not_export()}")

CLASSES = (ClassInfo(id=1, name="Hintergrund ü", color="#0072b2"), ClassInfo(id=7, name="cell/nucleus", color="#e69f00"))
# The Zoo's library has opinions of its own about warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def model(micro: ModelConfig, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = Segmenter(micro, 2)
    network.card = ModelCard(
        normalisation=Normalisation(low=(0.0,), high=(250.0,), mean=(100.0,), std=(40.0,)),
        pixel_size=PixelSize(y=4, x=5, unit="nanometer"),
        classes=CLASSES,
        tile=32,
        history=({"job": "finetune", "images": 2, "figures": {"held_out_miou": 0.5, "held_out_iou": {"a": 0.5}}},),
    )
    return save_model(network, tmp_path / "model.safetensors")


_RECORDED: dict[int, bytes] = {}


@pytest.fixture(autouse=True)
def _record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the same network once in this module: that takes seconds, and tests/model/test_portable.py looks at it."""
    record = export_module.to_torchscript

    def recorded(network: Segmenter, statistics: Normalisation, tile: int) -> bytes:
        if tile not in _RECORDED:
            _RECORDED[tile] = record(network, statistics, tile)
        return _RECORDED[tile]

    monkeypatch.setattr(export_module, "to_torchscript", recorded)


def run(*arguments: Any, **more: Any) -> tuple[list[Any], ExportResult | None]:
    events = list(export(*arguments, **more))
    assert isinstance(events[-1], Done)
    return events, events[-1].result


@needs_library
def test_a_package_passes_the_zoo_s_test_and_says_what_it_is(model: Path, blobs: Any, tmp_path: Path) -> None:
    sample = collection_from_arrays({"cells": blobs[0]}).records[0]
    config = ExportConfig(authors=("Ada Lovelace; Analytical Institute",), licence="MIT", cite=("Doe 2026, 10.1234/abc",))
    events, result = run(model, tmp_path / "out" / "mine", config, sample=sample)
    assert result is not None
    assert result.check is not None
    assert result.check.passed
    assert result.path == tmp_path / "out" / "mine.zip"
    assert [path.name for path in result.path.parent.iterdir()] == ["mine.zip"]
    assert [event.fraction for event in events if isinstance(event, PartBegun)] == [0.0, 0.1, 0.5, 0.6, 1.0]

    from bioimageio.spec import load_model_description

    described = load_model_description(result.path)
    (image,), (probabilities,) = described.inputs, described.outputs
    assert [axis.size for axis in image.axes[2:]] == [32, 32]
    assert [(axis.scale, axis.unit) for axis in image.axes[2:]] == [(4, "nanometer"), (5, "nanometer")]
    assert probabilities.axes[1].channel_names == ["Hintergrund ü", "cell/nucleus"]
    assert "cell/nucleus (id 7)" in probabilities.axes[1].description
    assert (described.authors[0].name, described.authors[0].affiliation) == ("Ada Lovelace", "Analytical Institute")
    assert str(described.license) == "MIT"
    assert [str(entry.doi) for entry in described.cite] == ["10.48550/arXiv.2602.16249", "10.1234/abc"]
    with zipfile.ZipFile(result.path) as package:
        assert not [name for name in package.namelist() if name.endswith((".pkl", ".pth", ".safetensors"))]
        documentation = package.read("README.md").decode()
        assert "## Validation" in documentation
        assert "mIoU 0.50" in documentation
        middle = blobs[0][32:64, 24:56].astype(np.float32)
        with package.open("test_input.npy") as file:
            np.testing.assert_array_equal(np.load(file)[0, 0], middle)


@pytest.mark.parametrize(
    "doi",
    [
        "10.1234/ab.c",
        "doi:10.1234/ab.c",
        "DOI: 10.1234/ab.c",
        "https://doi.org/10.1234/ab.c.",
        "(http://dx.doi.org/10.1234/ab.c)",
    ],
)
def test_a_citation_is_its_text_and_its_doi_however_that_is_written(doi: str) -> None:
    assert citation(SimpleNamespace(CiteEntry=dict), f"Smith 2020, {doi}") == {"text": "Smith 2020", "doi": "10.1234/ab.c"}


@needs_library
def test_a_package_with_another_result_does_not_pass(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Segmenter.forward

    def wrong(self: Segmenter, images: torch.Tensor) -> Any:
        output = other(self, images)
        return type(output)(output.logits.flip(1), output.aux)

    write = export_module._write_files

    def write_wrong(*arguments: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(Segmenter, "forward", wrong)  # after the record was made
            return write(*arguments)

    monkeypatch.setattr(export_module, "_write_files", write_wrong)
    with pytest.raises(AffmaeError, match=r"does not accept the package .*disagree"):
        run(model, tmp_path / "out" / "mine.zip", ExportConfig())
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@needs_library
def test_a_stopped_export_leaves_nothing(model: Path, tmp_path: Path) -> None:
    for part in (1, 2, 3):
        control = JobControl()
        seen = 0
        events = []
        for event in export(model, tmp_path / "out" / "mine.zip", ExportConfig(), control=control):
            events.append(event)
            seen += isinstance(event, PartBegun)
            if seen == part:
                control.stop()
        assert events[-1].stopped
        assert events[-1].result is None
        assert list((tmp_path / "out").iterdir()) == []


@needs_library
def test_what_the_user_says_is_checked_before_the_work(model: Path, tmp_path: Path) -> None:
    for wrong, message in (
        ({"licence": "my own"}, "take an SPDX identifier"),
        ({"authors": ("a/b",)}, "no author's name"),
        ({"cite": ("Doe 2026",)}, "neither a DOI"),
    ):
        events = export(model, tmp_path / "mine.zip", ExportConfig(**wrong))
        with pytest.raises(ConfigError, match=message):
            next(events)


@needs_library
def test_errors_that_say_what_to_do(model: Path, micro: ModelConfig, tmp_path: Path) -> None:
    (tmp_path / "there.zip").touch()
    with pytest.raises(StorageError, match="is there already"):
        run(model, tmp_path / "there.zip", ExportConfig())
    sample = collection_from_arrays({"rgb": np.arange(64 * 64 * 3).reshape(64, 64, 3) % 251}, rgb=True).records[0]
    with pytest.raises(DataError, match="3 channels, but the model was made for 1"):
        run(model, tmp_path / "mine.zip", ExportConfig(), sample=sample)
    bare = save_model(Segmenter(micro, 2), tmp_path / "bare.safetensors")
    with pytest.raises(ModelFileError, match="give an image to take them from"):
        run(bare, tmp_path / "mine.zip", ExportConfig())
    events, result = run(model, tmp_path / "mine.zip", ExportConfig(check=False))
    assert result is not None
    assert result.check is None
    assert [event for event in events if isinstance(event, Notice) and "Unknown author" in event.message]


BLOCKWISE = """
import sys, warnings
import numpy as np
for name in ("napari_affmae", "affmae_kernels", "napari"):
    sys.modules[name] = None
warnings.simplefilter("ignore")
from bioimageio.core import predict
image = np.load(sys.argv[2])[None, None].astype("float32")
output = predict(model=sys.argv[1], inputs=image, input_block_shape={"image": {"batch": 1, "channel": 1, "y": 32, "x": 32}})
np.save(sys.argv[3], output.members["probabilities"].data.values[0])
"""


@needs_library
def test_larger_images_go_through_in_blocks_there(model: Path, blobs: Any, tmp_path: Path) -> None:
    _, result = run(model, tmp_path / "mine.zip", ExportConfig(check=False))
    assert result is not None
    np.save(tmp_path / "image.npy", blobs[0])
    command = [sys.executable, "-I", "-c", BLOCKWISE, *map(str, (result.path, tmp_path / "image.npy", tmp_path / "out.npy"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    there = np.load(tmp_path / "out.npy")
    assert there.shape == (2, *blobs[0].shape)
    np.testing.assert_allclose(there.sum(axis=0), 1, atol=1e-5)
    # The second block of 24 pixels each way, with the 4 pixels around it that the package asks for.
    network = load_model(model)
    assert isinstance(network, Segmenter)
    tile = torch.from_numpy(blobs[0][20:52, 20:52].astype(np.float32))[None, None]
    with torch.no_grad():
        here = PortableSegmenter(network, network.card.normalisation).eval()(tile)[0, :, 4:-4, 4:-4].numpy()
    np.testing.assert_allclose(there[:, 24:48, 24:48], here, atol=1e-4)


@needs_library
def test_the_check_cannot_import_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_affmae.engine.bioimageio_check._SCRIPT", _IMPORTS_US)
    with pytest.raises(AffmaeError, match=r"could not run its test .*napari_affmae"):
        check_package(tmp_path / "none.zip", JobControl())


_IMPORTS_US = """
import sys
for name in sys.argv[4:]:
    sys.modules[name] = None
import napari_affmae
"""


def test_without_the_library_one_line_says_what_to_install(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export_module, "why_not_export", lambda: 'pip install "napari-affmae[bioimageio]"')
    with pytest.raises(AffmaeError, match="pip install") as refused:
        run(model, tmp_path / "mine.zip", ExportConfig())
    assert not isinstance(refused.value, ConfigError), "nothing is wrong with what was typed"


def test_the_native_path_needs_no_library(model: Path) -> None:
    code = "import sys; sys.modules['bioimageio'] = None; from napari_affmae import load_model; load_model(sys.argv[1])"
    source = [Path(export_module.__file__).parents[2], Path(affmae_kernels.__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, source))}
    command = [sys.executable, "-c", code, str(model)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_is_checked_wherever_the_path_counts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_affmae.engine.bioimageio_check._SCRIPT", _OPENS_IT)
    monkeypatch.chdir(tmp_path)
    Path("cells.zip").touch()
    result = check_package(Path("cells.zip"), JobControl())
    assert result is not None
    assert result.passed


_OPENS_IT = """
import json, sys
package, report = sys.argv[1:3]
open(package).close()
json.dump({"status": "passed", "errors": [], "warnings": []}, open(report, "w"))
"""
