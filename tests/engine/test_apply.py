"""Many images as one job: its events, its end at any moment, and what it refuses before it begins."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from skimage.io import imsave

from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.config import ApplyConfig, OutputFormat, Refinement
from napari_affmae.control import JobControl
from napari_affmae.data.outputs import SUFFIXES
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays, scan
from napari_affmae.engine import memory as memory_module
from napari_affmae.engine.apply import ApplyResult, apply
from napari_affmae.engine.segment import segment
from napari_affmae.errors import ConfigError, DataError, StorageError
from napari_affmae.events import Done, ImageBegun, ImageWritten, Notice, Progress, Started
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

CLASSES = (
    ClassInfo(id=7, name="wall", color="#ff0000"),
    ClassInfo(id=300, name="core", color="#00ff00"),
    ClassInfo(id=2, name="background", color="#0000ff"),
)


@pytest.fixture
def network(micro: ModelConfig) -> Segmenter:
    torch.manual_seed(0)
    segmenter = Segmenter(micro, 3)
    for parameter in segmenter.heads.parameters():
        torch.nn.init.normal_(parameter)
    normalisation = Normalisation(low=(0,), high=(255,), mean=(120,), std=(60,))
    size = PixelSize(y=8, x=8, unit="nanometer")
    segmenter.card = ModelCard(normalisation=normalisation, classes=CLASSES, tile=32, pixel_size=size)
    return segmenter


@pytest.fixture
def model(network: Segmenter, tmp_path: Path) -> Path:
    return save_model(network, tmp_path / "model.safetensors")


@pytest.fixture
def images() -> ImageCollection:
    rng = np.random.default_rng(2)
    return collection_from_arrays({name: rng.integers(0, 255, shape, np.uint8) for name, shape in SHAPES.items()})


SHAPES = {"one": (70, 50), "stack": (2, 40, 40), "three": (33, 90)}
CPU = ApplyConfig(device="cpu")


def test_events_of_all_images_make_one_job(model: Path, images: ImageCollection, tmp_path: Path) -> None:
    events = list(apply(model, images, tmp_path / "out", CPU))
    (started,) = [event for event in events if isinstance(event, Started)]
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.step for step in steps] == list(range(1, (started.total_steps or 0) + 1))
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)
    assert steps[-1].fraction == 1
    assert steps[-1].eta_seconds == 0
    assert all(a.elapsed_seconds <= b.elapsed_seconds for a, b in pairwise(steps))
    names = ["one", "stack[0]", "stack[1]", "three"]
    assert [(e.name, e.place, e.count) for e in events if isinstance(e, ImageBegun)] == [
        (name, place, 4) for place, name in enumerate(names, start=1)
    ]
    written = [event for event in events if isinstance(event, ImageWritten)]
    assert [event.outputs[0].name for event in written] == ["one.tif", "stack_0.tif", "stack_1.tif", "three.tif"]
    assert sum(written[0].pixels.values()) == 70 * 50
    result = events[-1].result  # type: ignore[attr-defined]
    assert isinstance(result, ApplyResult)
    assert len(result.written) == 4
    assert not result.kept


@pytest.mark.parametrize("size", [None, PixelSize(y=4, x=12, unit="nanometer")])
def test_row_by_row_is_what_segment_gives(model: Path, tmp_path: Path, size: PixelSize | None) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (150, 90), np.uint8)
    images = collection_from_arrays({"a": pixels}, size)
    events = list(apply(model, images, tmp_path / "out", CPU.replace(probabilities=True)))
    expected = segment(model, pixels, device="cpu", pixel_size=size)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), expected.labels)
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "a_probabilities.tif"), expected.probabilities, atol=1e-6)
    assert [event for event in events if isinstance(event, Progress)][-1].fraction == 1
    assert len([event for event in events if isinstance(event, Notice)]) == (size is not None)


def test_a_stop_keeps_what_is_finished_and_nothing_half(model: Path, images: ImageCollection, tmp_path: Path) -> None:
    control = JobControl()
    events = []
    for event in apply(model, images, tmp_path / "out", CPU, control=control):
        events.append(event)
        if isinstance(event, Progress) and sum(isinstance(one, ImageWritten) for one in events) == 1:
            control.stop()
    assert isinstance(events[-1], Done)
    assert events[-1].stopped
    there = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert there == ["areas.csv", "one.tif", "segment.jsonl"]
    rest = list(apply(model, images, tmp_path / "out", CPU, resume=True))
    assert [event.name for event in rest if isinstance(event, ImageWritten)] == ["stack[0]", "stack[1]", "three"]
    assert not rest[-1].stopped  # type: ignore[attr-defined]


def test_a_job_that_is_dropped_cleans_up(model: Path, images: ImageCollection, tmp_path: Path) -> None:
    job = apply(model, images, tmp_path / "out", CPU.replace(format="ome-zarr"))
    for event in job:
        if isinstance(event, Progress):
            break
    assert [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    job.close()  # type: ignore[attr-defined]
    assert list((tmp_path / "out").iterdir()) == []


def test_lazy_arrays_are_read_part_by_part(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (100, 90), np.uint8)
    zarr.create_array(str(tmp_path / "a.zarr"), shape=pixels.shape, chunks=(32, 32), dtype="u1")[...] = pixels
    config = CPU.replace(format="ome-zarr", refinement=Refinement(specks=9))
    list(apply(model, scan(tmp_path / "a.zarr"), tmp_path / "out", config))
    root = zarr.open_group(tmp_path / "out" / "a.ome.zarr", mode="r")
    np.testing.assert_array_equal(np.asarray(root["0"])[0], pixels)
    assert set(np.unique(np.asarray(root["labels/segmentation/0"]))) <= {7, 300, 2}


def test_refinement_that_would_not_fit_into_memory(
    model: Path, images: ImageCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "memory", lambda: (1e5, 1e6))
    with pytest.raises(DataError, match=r"refining 70 × 50 pixels needs about 0.0 GB of memory, .* without refinement"):
        list(apply(model, images, tmp_path / "out", CPU.replace(refinement=Refinement(holes=3))))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_no_image_is_ever_replaced_by_what_is_made_of_it(model: Path, tmp_path: Path, how: dict[str, bool]) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    tifffile.imwrite(folder / "one.tif", pixels)
    (tmp_path / "link").symlink_to(folder)
    for out in (folder, tmp_path / "link"):
        with pytest.raises(StorageError, match=r"one.tif is one of the images: choose another folder"):
            next(apply(model, scan(folder), out, CPU, **how))
    np.testing.assert_array_equal(tifffile.imread(folder / "one.tif"), pixels)
    assert [path.name for path in folder.iterdir()] == ["one.tif"]


@pytest.mark.parametrize(("format", "suffix"), SUFFIXES.items())
def test_what_was_segmented_into_the_folder_of_the_images_is_no_image(
    model: Path, tmp_path: Path, format: OutputFormat, suffix: str
) -> None:
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    for name in ("one.png", "deeper/two.png"):
        imsave(folder / name, np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8), check_contrast=False)
    for out in (folder, folder / "results"):
        list(apply(model, scan(folder), out, CPU.replace(format=format)))
    found = scan(folder)
    assert [record.name for record in found.records] == ["deeper/two.png", "one.png"]
    results = {"one", "deeper/two", "results/one", "results/deeper/two"}
    assert {item.name for item in found.skipped} == {name + suffix for name in results}
    assert "was made of an image" in found.skipped[0].reason


def test_no_image_is_removed_because_it_was_once_a_result(model: Path, images: ImageCollection, tmp_path: Path) -> None:
    for name in ("images", "out"):
        (tmp_path / name).mkdir()
        imsave(tmp_path / name / "one.png", images.records[0].read()[..., 0], check_contrast=False)
    out = tmp_path / "out"
    list(apply(model, scan(tmp_path / "images"), out, CPU.replace(format="ome-zarr")))
    both = scan(out)
    assert [record.name for record in both.records] == ["one.ome.zarr", "one.png"]
    with pytest.raises(StorageError, match=r"one.ome.zarr is one of the images: choose another folder"):
        next(apply(model, both, out, CPU, overwrite=True))


def test_a_written_ome_zarr_stands_for_an_image_that_is_gone(model: Path, images: ImageCollection, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    imsave(folder / "one.png", images.records[0].read()[..., 0], check_contrast=False)
    list(apply(model, scan(folder), folder / "results", CPU.replace(format="ome-zarr")))
    assert [record.name for record in scan(folder / "results").records] == ["one.ome.zarr"]
    (folder / "one.png").unlink()
    assert [record.name for record in scan(folder).records] == ["results/one.ome.zarr"]


def test_what_is_refused_before_any_work(model: Path, images: ImageCollection, tmp_path: Path) -> None:
    two = collection_from_arrays({"a": np.arange(800).reshape(20, 20, 2)[..., [0, 1, 1]]}, rgb=True)
    with pytest.raises(DataError, match="3 channels, but the model was made for 1"):
        next(apply(model, two, tmp_path / "out", CPU))
    with pytest.raises(ConfigError, match="no class 'sky'"):
        next(apply(model, images, tmp_path / "out", CPU.replace(refinement=Refinement(background="sky"))))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "three.tif").touch()
    with pytest.raises(StorageError, match=r"three.tif is there already.*--overwrite"):
        next(apply(model, images, tmp_path / "out", CPU, resume=True))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["three.tif"]
