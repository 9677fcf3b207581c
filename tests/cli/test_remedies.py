"""What a message tells to do is the right thing for what went wrong."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

ONE_STEP = ("--steps", 1, "--tile", 32, "--batch", 1)


def last(result, code: int = 1) -> str:
    assert result.code == code, result.err
    assert result.out == ""
    return result.err.strip().splitlines()[-1]


def test_instance_labels_are_told_from_a_missing_class(affmae, images, labels, finetuned, tmp_path):
    shutil.copytree(labels, tmp_path / "labels")
    Image.fromarray(np.arange(96 * 96, dtype=np.uint16).reshape(96, 96) % 7).save(tmp_path / "labels" / "a.png")
    said = last(affmae("evaluate", finetuned, "--images", images, "--labels", tmp_path / "labels"))
    assert "the labels hold id 2" in said
    assert "--foreground" in said


def test_a_text_file_is_no_checkpoint(affmae, tmp_path):
    (tmp_path / "paper.pth").write_text("to be downloaded")
    said = last(affmae("import-checkpoint", tmp_path / "paper.pth", "--out", tmp_path / "m.safetensors"))
    assert "cannot be read" in said
    assert ".pth file of the paper's released models" in said
    for torchs_own in ("weights_only", "torch.load", "pickle", "arbitrary"):
        assert torchs_own not in said


def test_a_folder_that_holds_no_run_is_not_to_be_resumed(affmae, images, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    said = last(affmae("pretrain", images, "--out", tmp_path, *ONE_STEP))
    assert "is not empty and holds no run" in said
    assert "--resume" not in said


def test_a_folder_that_holds_a_run_can_be_resumed(affmae, images, pretrained):
    said = last(affmae("pretrain", images, "--out", pretrained, *ONE_STEP))
    assert "--resume" in said
    assert "resume=True" not in said


def test_a_run_of_another_job_is_named_as_one(affmae, images, labels, pretrained, finetuned):
    said = last(
        affmae("finetune", pretrained, "--images", images, "--labels", labels, "--out", pretrained, "--resume", *ONE_STEP), 2
    )
    assert "holds a pretrain run, not finetune" in said
    said = last(affmae("pretrain", images, "--out", finetuned, "--resume", *ONE_STEP), 2)
    assert "holds a finetune run, not pretrain" in said


def test_a_file_in_place_of_a_folder(affmae, images, finetuned, tmp_path):
    (tmp_path / "list.txt").write_text("a")
    for out in (tmp_path / "list.txt", tmp_path / "list.txt" / "deeper"):
        for words in (("pretrain", images, *ONE_STEP), ("segment", finetuned, images)):
            said = last(affmae(*words, "--out", out))
            assert "not a folder" in said
            assert "free some space" not in said


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "where you may write"), (errno.EROFS, "where you may write")],
)
def test_the_remedy_follows_the_reason(affmae, images, tmp_path, monkeypatch, number, remedy):
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    said = last(affmae("pretrain", images, "--out", tmp_path / "run", *ONE_STEP))
    assert os.strerror(number) in said
    assert remedy in said


def test_exhausted_memory_is_said_in_one_line(affmae, images, tmp_path, monkeypatch):
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 64.0 GiB")

    monkeypatch.setattr("napari_affmae.data.scan.scan", exhausted)
    said = last(affmae("pretrain", images, "--out", tmp_path, *ONE_STEP))
    assert "not enough memory for this (Unable to allocate 64.0 GiB); close other" in said


def test_bench_without_a_card_names_the_cases_for_a_cpu(affmae, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--case cpu-segment --case cpu-train" in last(affmae("bench", "--case", "small-512"), 2)


def test_resuming_a_segmentation_with_other_options_names_the_option(affmae, images, finetuned, tmp_path):
    words = ("segment", finetuned, images / "a.png", "--out", tmp_path)
    assert affmae(*words, "--probabilities").code == 0
    said = last(affmae(*words, "--resume"), 2)
    assert "was made with --probabilities, and now it is not given" in said


def test_the_kinds_of_images_are_named(affmae, tmp_path):
    said = last(affmae("pretrain", tmp_path, "--out", tmp_path / "run", *ONE_STEP))
    assert f"no images in {tmp_path}, it is empty" in said
    assert "PNG, JPEG, TIFF or OME-Zarr" in said
    (tmp_path / "notes.txt").write_text("nothing to see")
    said = last(affmae("pretrain", tmp_path, "--out", tmp_path / "run", *ONE_STEP))
    assert "its 1 file is of another kind" in said


@pytest.mark.parametrize(
    ("words", "command"), [(("pretrain", "x"), "pretrain"), (("project", "show"), "project show"), (("nonsense",), "")]
)
def test_wrong_usage_names_the_help_that_helps(affmae, words, command):
    assert f"see napari-affmae {command} --help".replace("  ", " ") in last(affmae(*words), 2)


@pytest.mark.parametrize("command", ["pretrain", "finetune", "segment"])
def test_a_tile_that_does_not_fit_the_patches_is_refused_with_one_that_does(
    affmae, images, labels, pretrained, finetuned, tmp_path, command
):
    words = {
        "pretrain": ("pretrain", images),
        "finetune": ("finetune", pretrained, "--images", images, "--labels", labels),
        "segment": ("segment", finetuned, images),
    }[command]
    said = last(affmae(*words, "--out", tmp_path / "out", "--tile", 250), 2)
    assert "a multiple of 8 pixels" in said
    assert "248 or 256" in said
    assert not (tmp_path / "out").exists()


def test_a_tile_far_larger_than_all_images_is_refused_and_none_is_chosen_that_is_larger(affmae, images, tmp_path):
    words = ("pretrain", images, "--steps", 1, "--batch", 1, "--out")
    said = last(affmae(*words, tmp_path / "out", "--tile", 256), 2)
    assert "take 96 or less" in said
    assert not (tmp_path / "out").exists()
    for run, tile in (("slightly", ("--tile", 128)), ("automatic", ())):
        result = affmae(*words, tmp_path / run, *tile)
        assert result.code == 0, result.err
        assert ("3 of 3 images are smaller than the tile" in result.err) is (run == "slightly")
    assert affmae(*words, tmp_path / "automatic", "--resume").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("segment", "nowhere", "images", "--out", "out"),
        ("suggest", "nowhere", "images", "--out", "out"),
        ("inspect", "nowhere", "image.png", "--out", "out"),
        ("evaluate", "nowhere", "--images", "images", "--labels", "labels"),
        ("export", "nowhere", "--out", "out"),
        ("finetune", "nowhere", "--images", "images", "--labels", "labels", "--out", "out"),
        ("finetune", "scratch:tiny", "--images", "nowhere", "--labels", "labels", "--out", "out"),
        ("pretrain", "nowhere", "--out", "out"),
        ("import-checkpoint", "nowhere", "--out", "out"),
    ],
)
def test_a_path_that_is_not_there_is_said_before_anything_heavy_is_loaded(words, tmp_path):
    program = (
        "import sys; from napari_affmae.cli import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'torch', 'napari'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "1 []\n", done.stderr
    assert "nowhere" in done.stderr


def test_labels_of_other_names_are_named_and_labels_of_other_sizes_are_not_called_misnamed(affmae, images, tmp_path):
    words = ("finetune", "scratch:tiny", "--images", images, "--labels", tmp_path, "--out", tmp_path / "run", *ONE_STEP)
    ids = Image.fromarray(np.eye(50, dtype=np.uint8))
    ids.save(tmp_path / "a_mask.png")
    said = last(affmae(*words))
    assert "name each label file as its image; there are a_mask.png" in said
    for name in ("a", "b"):
        ids.save(tmp_path / f"{name}.png")
    (tmp_path / "sub").mkdir()
    ids.save(tmp_path / "sub" / "c.png")
    said = last(affmae(*words))
    assert "50 × 50" in said
    assert "name each label file" not in said
