"""Segmenting a folder: going on, never overwriting, tables, refinement, zarr in and out."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from skimage.io import imread

from napari_affmae.data.tiff_rows import TiffRows
from napari_affmae.engine import folder_job


@pytest.fixture
def folder(images, tmp_path) -> Path:
    """Two images with a pixel size of 8 × 4 nm."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        pixels = imread(images / f"{name}.png")
        tifffile.imwrite(
            folder / f"{name}.tif", pixels, imagej=True, resolution=(1 / 0.004, 1 / 0.008), metadata={"unit": "um"}
        )
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_of_areas_counts_what_was_written(affmae, folder, finetuned, tmp_path):
    out = tmp_path / "out"
    result = affmae("segment", finetuned, folder, "--out", out, "--json")
    assert result.code == 0, result.err
    rows = table(out / "areas.csv")
    assert [(row["image"], row["class"]) for row in rows] == [
        (name, word) for name in ("a.tif", "b.tif") for word in ("class 0", "class 1")
    ]
    for row in rows:
        labels = tifffile.imread(out / row["image"])
        count = int(np.count_nonzero(labels == int(row["class_id"])))
        assert int(row["pixels"]) == count
        assert float(row["fraction"]) == pytest.approx(count / labels.size, abs=1e-6)
        assert row["area_unit"] == "micrometer^2"
        assert float(row["area"]) == pytest.approx(count * 0.008 * 0.004, rel=1e-4)
        assert row["objects"] == ""
    assert not (out / "instances.csv").exists()
    assert json.loads(result.out)["tables"] == [str(out / "areas.csv")]


def test_areas_without_a_pixel_size_have_no_unit(affmae, images, finetuned, tmp_path):
    assert affmae("segment", finetuned, images / "a.png", "--out", tmp_path).code == 0
    assert {(row["area"], row["area_unit"]) for row in table(tmp_path / "areas.csv")} == {("", "")}


def test_resume_leaves_out_what_is_finished(affmae, folder, finetuned, tmp_path):
    out = tmp_path / "out"
    shutil.move(folder / "b.tif", tmp_path / "b.tif")
    assert affmae("segment", finetuned, folder, "--out", out).code == 0
    shutil.move(tmp_path / "b.tif", folder / "b.tif")
    first = (out / "a.tif").stat().st_mtime_ns
    refused = affmae("segment", finetuned, folder, "--out", out)
    assert refused.code == 1
    assert "a.tif is there already" in refused.err
    assert "--resume" in refused.err
    assert "--overwrite" in refused.err
    result = affmae("segment", finetuned, folder, "--out", out, "--resume", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["written"] == [str(out / "b.tif")]
    assert report["kept"] == [str(out / "a.tif")]
    assert (out / "a.tif").stat().st_mtime_ns == first
    assert {row["image"] for row in table(out / "areas.csv")} == {"a.tif", "b.tif"}
    again = json.loads(affmae("segment", finetuned, folder, "--out", out, "--resume", "--json").out)
    assert again["written"] == []
    assert len(again["kept"]) == 2


def test_resume_with_other_settings_or_from_elsewhere_is_refused(affmae, folder, finetuned, tmp_path):
    out = tmp_path / "out"
    assert affmae("segment", finetuned, folder, "--out", out).code == 0
    before = (out / "a.tif").read_bytes()
    other = affmae("segment", finetuned, folder, "--out", out, "--resume", "--specks", 5)
    assert other.code == 2
    assert "was made with --specks 0, and now it is 5" in other.err
    assert "--overwrite" in other.err
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    assert "a.tif was made with source" in affmae("segment", finetuned, elsewhere, "--out", out, "--resume").err
    assert (out / "a.tif").read_bytes() == before
    assert affmae("segment", finetuned, folder, "--out", out, "--overwrite", "--specks", 5).code == 0


def test_resume_does_not_take_a_strangers_file_for_its_own(affmae, folder, finetuned, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.tif").write_bytes(b"precious")
    refused = affmae("segment", finetuned, folder, "--out", out, "--resume")
    assert refused.code == 1
    assert "b.tif is there already" in refused.err
    assert "--overwrite" in refused.err
    assert [item.name for item in out.iterdir()] == ["b.tif"]
    (out / "b.tif").rename(out / "areas.csv")
    assert "areas.csv is there already" in affmae("segment", finetuned, folder, "--out", out).err
    assert (out / "areas.csv").read_bytes() == b"precious"


def test_what_is_overwritten_leaves_nothing_behind(affmae, folder, finetuned, tmp_path):
    out = tmp_path / "out"

    def made(*options):
        assert affmae("segment", finetuned, folder, "--out", out, *options).code == 0
        return {item.name for item in out.iterdir()} - {"areas.csv", "segment.jsonl"}

    everything = {f"{name}{more}.tif" for name in "ab" for more in ("", "_probabilities", "_instances")}
    assert made("--instances", "--probabilities") == {*everything, "instances.csv"}
    assert made("--overwrite") == {"a.tif", "b.tif"}
    (out / "a_instances.tif").write_bytes(b"precious")
    assert made("--overwrite", "--format", "ome-zarr") == {"a.ome.zarr", "b.ome.zarr", "a_instances.tif"}
    refused = affmae("segment", finetuned, folder, "--out", out)
    assert "a.ome.zarr and 1 more are there already" in refused.err
    other = affmae("segment", finetuned, folder, "--out", out, "--resume")
    assert "was made with --format ome-zarr, and now it is tiff" in other.err


def test_a_strangers_table_stays_where_none_is_made(affmae, folder, finetuned, tmp_path):
    out = tmp_path / "out"
    assert affmae("segment", finetuned, folder, "--out", out).code == 0
    (out / "instances.csv").write_bytes(b"precious")
    assert affmae("segment", finetuned, folder, "--out", out, "--overwrite").code == 0
    assert (out / "instances.csv").read_bytes() == b"precious"


def test_a_run_that_died_within_an_image_is_taken_up(affmae, folder, finetuned, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write = TiffRows.write

    def dies(self, top, pixels):
        if "b.tif" in self._file.name:
            raise KeyboardInterrupt
        write(self, top, pixels)

    monkeypatch.setattr(TiffRows, "write", dies)
    assert affmae("segment", finetuned, folder, "--out", out).code == 130
    monkeypatch.undo()
    assert sorted(item.name for item in out.iterdir()) == ["a.tif", "areas.csv", "segment.jsonl"]
    # As kill -9 leaves it: the file is in place, but the log does not know, and its last line is cut.
    shutil.copy(out / "a.tif", out / "b.tif")
    with (out / "segment.jsonl").open("a") as file:
        file.write('{"name": "b.t')
    result = affmae("segment", finetuned, folder, "--out", out, "--resume", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["written"] == [str(out / "b.tif")]
    assert {row["image"] for row in table(out / "areas.csv")} == {"a.tif", "b.tif"}
    assert json.loads(affmae("segment", finetuned, folder, "--out", out, "--resume", "--json").out)["written"] == []


def test_an_unreadable_image_does_not_hold_up_the_others(affmae, folder, finetuned, tmp_path, monkeypatch):
    segment_events = folder_job.segment_events

    def vanishing(network, image, **options):
        (folder / "b.tif").unlink(missing_ok=True)
        return segment_events(network, image, **options)

    monkeypatch.setattr(folder_job, "segment_events", vanishing)
    result = affmae("segment", finetuned, folder, "--out", tmp_path / "out", "--json")
    assert result.code == 0
    assert json.loads(result.out)["skipped"] == ["b.tif"]
    assert "note: skipped b.tif: the file is not there" in result.err
    assert not (tmp_path / "out" / "b.tif").exists()


def test_refinement_is_written_with_its_parameters(affmae, folder, finetuned, tmp_path):
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert affmae("segment", finetuned, folder, "--out", plain).code == 0
    result = affmae("segment", finetuned, folder, "--out", out, "--specks", 20, "--holes", 30, "--split", 2, "--json")
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in (out / "segment.jsonl").read_text().splitlines()]
    assert {line["settings"]["refinement"]["specks"] for line in lines} == {20}
    assert {line["settings"]["refinement"]["split"] for line in lines} == {2.0}
    instances = table(out / "instances.csv")
    for name in ("a", "b"):
        labels, numbers = tifffile.imread(out / f"{name}.tif"), tifffile.imread(out / f"{name}_instances.tif")
        np.testing.assert_array_equal(numbers > 0, labels == 1)
        mine = [row for row in instances if row["image"] == f"{name}.tif"]
        assert len(mine) == numbers.max()
        assert [int(row["pixels"]) for row in mine] == np.bincount(numbers.ravel())[1:].tolist()
        (foreground,) = [r for r in table(out / "areas.csv") if r["image"] == f"{name}.tif" and r["class"] == "class 1"]
        assert int(foreground["objects"]) == len(mine)
        assert int(foreground["pixels"]) == np.count_nonzero(labels == 1)
    assert any((tifffile.imread(plain / f"{name}.tif") != tifffile.imread(out / f"{name}.tif")).any() for name in ("a", "b")), (
        "this model makes specks"
    )


def test_a_background_that_is_no_class(affmae, folder, finetuned, tmp_path):
    result = affmae("segment", finetuned, folder, "--out", tmp_path / "out", "--instances", "--background", "sky")
    assert result.code == 2
    assert "no class 'sky'" in result.err
    assert not (tmp_path / "out").exists()


def test_zarr_in_and_out_agrees_with_tiff(affmae, folder, finetuned, tmp_path):
    pixels = imread(folder / "a.tif")
    source = tmp_path / "source.zarr"
    zarr.create_array(str(source), shape=pixels.shape, chunks=(32, 32), dtype=pixels.dtype)[...] = pixels
    assert affmae("segment", finetuned, folder / "a.tif", "--out", tmp_path / "tiff").code == 0
    words = ("segment", finetuned, source, "--out", tmp_path / "zarr", "--format", "ome-zarr", "--split", 1)
    assert affmae(*words, "--specks", 0, "--json").code == 0
    root = zarr.open_group(tmp_path / "zarr" / "source.ome.zarr", mode="r")
    np.testing.assert_array_equal(root["labels/segmentation/0"][...], tifffile.imread(tmp_path / "tiff" / "a.tif"))
    np.testing.assert_array_equal(root["0"][0], pixels)
    assert root["labels"].attrs["ome"]["labels"] == ["segmentation", "instances"]
    assert (root["labels/instances/0"][...] > 0).sum() == (root["labels/segmentation/0"][...] == 1).sum()
    # The output is an image again, and can be segmented with its pixel size.
    assert affmae("segment", finetuned, tmp_path / "zarr", "--out", tmp_path / "again").code == 0
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "again" / "source.tif"), tifffile.imread(tmp_path / "tiff" / "a.tif")
    )


def test_channels_are_chosen(affmae, images, finetuned, tmp_path):
    gray = imread(images / "a.png")
    color = np.stack([np.roll(gray, 7, axis=0), gray, gray.T], axis=-1)
    (tmp_path / "in").mkdir()
    from skimage.io import imsave

    imsave(tmp_path / "in" / "a.png", color, check_contrast=False)
    assert affmae("segment", finetuned, images / "a.png", "--out", tmp_path / "gray").code == 0
    result = affmae("segment", finetuned, tmp_path / "in", "--out", tmp_path / "color", "--channels", 1)
    assert result.code == 0, result.err
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "gray" / "a.tif"), tifffile.imread(tmp_path / "color" / "a.tif"))
    other = affmae("segment", finetuned, tmp_path / "in", "--out", tmp_path / "color", "--channels", 2, "--resume")
    assert other.code == 2
    assert "a.tif was made with --channels 1, and now it is 2" in other.err


def test_a_killed_run_is_taken_up_and_leaves_no_remains(affmae, folder, finetuned, tmp_path):
    for number in range(8):
        shutil.copy(folder / "a.tif", folder / f"more_{number}.tif")
    out = tmp_path / "out"
    words = [sys.executable, "-m", "napari_affmae", "segment", finetuned, folder, "--out", out, "--format", "ome-zarr"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([*map(str, words)], env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"image 4/10"):
            process.kill()  # somewhere within an image
            break
    process.stderr.close()
    process.wait()
    first = {path: path.stat().st_mtime_ns for path in out.glob("*.zarr")}
    assert 3 <= len(first) < 10
    (out / ".more_7.ome.zarr.left").mkdir()
    result = affmae("segment", finetuned, folder, "--out", out, "--format", "ome-zarr", "--resume", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert len(report["written"]) + len(report["kept"]) == 10
    assert len(report["kept"]) in (len(first), len(first) - 1)  # the last one may have been in place, but not in the log
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    for path in report["kept"]:
        assert Path(path).stat().st_mtime_ns == first[Path(path)]
    assert len({row["image"] for row in table(out / "areas.csv")}) == 10
