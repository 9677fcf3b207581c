"""A project folder of the dock on the command line: its paint trains, its newest network is found, snapshots go back."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from napari_affmae.card import ClassInfo
from napari_affmae.data.label_array import LabelArray
from napari_affmae.data.project_folder import ImageEntry, ProjectFile, read_project, write_project
from napari_affmae.model_header import read_card
from napari_affmae.model_places import locate_model

CLASSES = (
    ClassInfo(id=4, name="rest", color="#0072b2"),
    ClassInfo(id=2, name="membrane", color="#e69f00"),
    ClassInfo(id=9, name="never painted", color="#d55e00"),
)
SIZE = 96


def with_image(file, image, entry):
    return file.model_copy(update={"images": {**file.images, image: entry}})


def paint(project, image, stack, index, labels, shape):
    whole = np.zeros(shape, np.uint8)
    whole[index] = labels
    file = read_project(project)
    where = file.labels_of(stack)
    LabelArray(project / where, "paint").write(whole)
    pixels = {int(value): int((labels == value).sum()) for value in np.unique(labels) if value}
    write_project(project, with_image(file, image, ImageEntry(labels=where, index=index).updated(pixels=pixels)))


@pytest.fixture
def project(tmp_path):
    """Paint on two of the three images, one of them with an id that is no class any more."""
    folder = tmp_path / "project"
    write_project(folder, ProjectFile(classes=CLASSES))
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[:20], labels[40:60], labels[80:82] = 4, 2, 77
    paint(folder, "a.png", "a.png", (), labels, labels.shape)
    paint(folder, "sub/c.png", "sub/c.png", (), labels[::-1], labels.shape)
    return folder


def test_finetune_takes_the_paint_and_the_classes_of_a_project(affmae, images, pretrained, project, tmp_path):
    run = tmp_path / "run"
    words = ("finetune", pretrained, "--images", images, "--labels", project, "--out", run, "--steps", 2)
    result = affmae(*words, "--tile", 32, "--batch", 1, "--json")
    assert result.code == 0, result.err
    assert read_card(run).card.classes == CLASSES[:2]
    assert json.loads((run / "config.json").read_bytes())["sparse"] is True


def test_evaluate_takes_the_paint_of_a_project(affmae, images, pretrained, project, tmp_path):
    run = tmp_path / "run"
    words = ("finetune", pretrained, "--images", images, "--labels", project, "--out", run, "--steps", 1)
    assert affmae(*words, "--tile", 32, "--batch", 1).code == 0
    result = affmae("evaluate", run, "--images", images, "--labels", project, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["pixels"] == 2 * (20 + 20) * SIZE


def test_evaluate_refuses_a_project_that_calls_classes_otherwise(affmae, images, finetuned, project):
    file = read_project(project)
    write_project(project, file.replace(classes=tuple(c.replace(id=i) for c, i in zip(CLASSES[:2], (2, 1), strict=True))))
    result = affmae("evaluate", finetuned, "--images", images, "--labels", project)
    assert result.code == 1
    assert "the model's: 0 (class 0), 1 (class 1)" in result.err


def test_segment_finds_the_newest_network_where_none_is_known_to_be_in_use(
    affmae, images, pretrained, finetuned, project, tmp_path
):
    shutil.copytree(pretrained, project / "pretrain-1")
    result = affmae("segment", project, images / "a.png", "--out", tmp_path / "out")
    assert result.code == 1, "a pretrained network does not segment"
    shutil.copytree(finetuned, project / "finetune-9")
    (project / "finetune-10").mkdir()
    result = affmae("segment", project, images / "a.png", "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "a.tif").is_file()


def test_the_network_in_use_goes_before_newer_ones(affmae, images, finetuned, project, tmp_path):
    for name in ("finetune-1", "finetune-2"):
        shutil.copytree(finetuned, project / name)
    segment = ("segment", project, images / "a.png", "--overwrite", "--out", tmp_path / "out")
    file = read_project(project)
    for place, expected in (("finetune-1/model.safetensors", "finetune-1"), ("gone.safetensors", "finetune-2")):
        write_project(project, file.replace(settings=file.settings.replace(segmenter=place)))
        assert affmae(*segment).code == 0
        assert locate_model(project) == project / expected / "model.safetensors"
    write_project(project, file.replace(settings=file.settings.replace(segmenter="")))
    assert affmae(*segment).code == 1, "none is in use"


@pytest.mark.parametrize("words", [("--foreground",)])
def test_what_makes_no_sense_for_a_project_says_so(affmae, images, project, tmp_path, words):
    result = affmae("finetune", "scratch:tiny", "--images", images, "--labels", project, "--out", tmp_path / "run", *words)
    assert result.code == 2
    assert "classes of its own" in result.err


def test_images_that_are_not_in_the_project_say_so(affmae, images, project, tmp_path):
    result = affmae("finetune", "scratch:tiny", "--images", images / "b.png", "--labels", project, "--out", tmp_path / "run")
    assert result.code == 1
    assert "painted there: a.png, sub/c.png" in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_snapshots_are_taken_listed_and_restored(affmae, project, finetuned):
    shutil.copytree(finetuned, project / "finetune-1")
    taken = json.loads(affmae("project", "snapshot", project, "--reason", "before lunch", "--json").out)
    assert taken["model"]
    file = read_project(project)
    LabelArray(project / file.images["a.png"].labels, "paint").write(np.ones((SIZE, SIZE), np.uint8))
    shown = json.loads(affmae("project", "show", project, "--json").out)
    assert shown["states"] == {"painted": 2}
    assert shown["classes"]["membrane"] == 40 * SIZE
    assert shown["snapshots"] == [taken["snapshot"]]
    for_people = affmae("project", "show", project).out
    assert "before lunch" in for_people
    assert "a.png" not in for_people
    result = affmae("project", "restore", project, taken["snapshot"], "--json")
    assert result.code == 0, result.err
    where = read_project(project).images["a.png"].labels
    assert (LabelArray(project / where, "paint").read() == 2).sum() == 20 * SIZE
    assert locate_model(project) == project / "snapshots" / taken["snapshot"] / "model.safetensors", "it is in use again"
    assert affmae("project", "restore", project, "nonsense").code == 1
    assert affmae("project", "show", project / "finetune-1").code == 1


def test_a_painted_image_that_is_gone_is_said(affmae, images, pretrained, project, tmp_path):
    labels = np.full((SIZE, SIZE), 4, np.uint8)
    paint(project, "renamed.png", "renamed.png", (), labels, labels.shape)
    words = ("finetune", pretrained, "--labels", project, "--steps", 1, "--tile", 32, "--batch", 1, "--images")
    result = affmae(*words, images, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert f"note: skipped renamed.png: it is painted in the project, but not in {images}" in result.err
    part = affmae(*words, images / "a.png", "--out", tmp_path / "part")
    assert part.code == 0, part.err
    assert "renamed.png" not in part.err, "who gives one image wants no more"


def test_painted_images_of_another_size_are_not_called_unpainted(affmae, images, project, tmp_path):
    folder = tmp_path / "resized"
    folder.mkdir()
    Image.open(images / "a.png").resize((64, 48)).save(folder / "a.png")
    words = ("finetune", "scratch:tiny", "--images", folder, "--labels", project, "--out", tmp_path / "run")
    result = affmae(*words)
    assert result.code == 1
    [line] = result.err.strip().splitlines()
    assert "a.png" in line
    assert "96 × 96" in line
    assert "no image" not in line


def test_only_painted_images_are_named_as_painted(affmae, images, project, tmp_path):
    file = read_project(project)
    looked_at = ImageEntry(labels=file.labels_of("0.png"), index=()).updated(predicted=True)
    write_project(project, with_image(file, "0.png", looked_at))
    result = affmae("finetune", "scratch:tiny", "--images", images / "b.png", "--labels", project, "--out", tmp_path / "run")
    assert "painted there: a.png, sub/c.png)" in result.err
