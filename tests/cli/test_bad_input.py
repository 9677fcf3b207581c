"""What goes wrong is said in one line that tells what to do, with the exit code that scripts rely on."""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from napari_affmae.model.mae import MaskedAutoencoder

ONE_STEP = ("--steps", 1, "--tile", 32, "--batch", 1)


def fails(result, *parts: str, code: int = 1) -> None:
    assert result.code == code, result.err
    last = result.err.strip().splitlines()[-1]
    assert last.startswith("napari-affmae: ")
    for part in parts:
        assert part in last
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("nonsense",), "Unknown command"),
        (("pretrain", "folder"), "--out"),
        (("pretrain", "folder", "--out", "run", "--preset", "huge"), "huge"),
        (("pretrain", "folder", "--out", "run", "--tile", "8"), "16"),
        (("pretrain", "folder", "--out", "run", "--steps", "3", "--minutes", "1"), "Mutually exclusive"),
        (("pretrain", "folder", "--out", "run", "--steps", "0"), "--steps"),
        (("pretrain", "folder", "--out", "run", "--device", "tpu"), "tpu"),
        (("pretrain", "folder", "--out", "run", "--stepz", "3"), "--stepz"),
        (("finetune", "m", "--images", "i", "--labels", "l", "--out", "run", "--classes", "1"), "--classes"),
        (("finetune", "m", "--images", "i", "--labels", "l"), "--out"),
        (
            ("finetune", "m", "--images", "i", "--labels", "l", "--out", "r", "--steps", "3", "--epochs", "1"),
            "Mutually exclusive",
        ),
        (("finetune", "m", "--images", "i", "--labels", "l", "--out", "r", "--tile", "8"), "16"),
        (("segment", "m", "i", "--out", "o", "--format", "bmp"), "bmp"),
        (("evaluate", "m", "--images", "i", "--labels", "l", "--steps", "3"), "add --compare scratch"),
        (("evaluate", "m", "--images", "i", "--labels", "l", "--tile", "64"), "add --compare scratch"),
        (("evaluate", "m", "--images", "i", "--labels", "l", "--compare", "scratch", "--views", "8"), "without --views"),
    ],
)
def test_wrong_usage_exits_with_2(affmae, words, part):
    fails(affmae(*words), part, code=2)


def test_missing_folder(affmae, tmp_path):
    fails(affmae("pretrain", tmp_path / "nowhere", "--out", tmp_path / "run", *ONE_STEP), "is not there", "folder of images")


def test_folder_without_images(affmae, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    fails(affmae("pretrain", tmp_path, "--out", tmp_path / "run", *ONE_STEP), "no images in", "choose a folder of PNG")


def test_only_constant_images(affmae, tmp_path):
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / "flat.png")
    fails(affmae("pretrain", tmp_path, "--out", tmp_path / "run", *ONE_STEP), "flat.png", "constant")


def test_run_folder_in_use(affmae, images, pretrained):
    before = sorted(path.name for path in pretrained.iterdir())
    fails(affmae("pretrain", images, "--out", pretrained, *ONE_STEP), "holds a run", "--resume")
    assert sorted(path.name for path in pretrained.iterdir()) == before


def test_nothing_to_resume(affmae, images, tmp_path):
    fails(
        affmae("pretrain", images, "--out", tmp_path / "run", "--resume", "--steps", 3), "no run to resume", "without --resume"
    )


def test_damaged_settings(affmae, images, tmp_path):
    (tmp_path / "config.json").write_text('{"settings": ')
    fails(affmae("pretrain", images, "--out", tmp_path, "--resume", "--steps", 3), "cannot be read", "another folder")


@pytest.mark.parametrize("command", ["pretrain", "segment", "doctor"])
def test_no_gpu_when_cuda_is_asked_for(affmae, images, finetuned, tmp_path, monkeypatch, command):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = {
        "pretrain": ("pretrain", images, "--out", tmp_path / "run", *ONE_STEP),
        "segment": ("segment", finetuned, images / "a.png", "--out", tmp_path / "out"),
        "doctor": ("doctor", "--json"),
    }[command]
    result = affmae(*words, "--device", "cuda")
    assert result.code == 1
    said = result.out if command == "doctor" else result.err
    assert "no CUDA device" in said
    assert "--device cpu" in said


def test_model_file_of_somebody_else(affmae, images, tmp_path):
    stranger = tmp_path / "model.safetensors"
    stranger.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    fails(affmae("segment", stranger, images, "--out", tmp_path / "out"), "was not written by napari-affmae")


def test_truncated_model_file(affmae, images, finetuned, tmp_path):
    whole = (finetuned / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    fails(affmae("segment", tmp_path, images, "--out", tmp_path / "out"), "damaged")
    assert not (tmp_path / "out").exists()


def test_no_model_at_all(affmae, images, tmp_path):
    fails(affmae("segment", tmp_path, images, "--out", tmp_path / "out"), "no model in")


def test_segmenting_with_a_pretrained_network(affmae, images, pretrained, tmp_path):
    fails(affmae("segment", pretrained, images, "--out", tmp_path), "no segmenter", "finetune it")


def test_images_with_other_channels_than_the_model(affmae, finetuned, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "color.png")
    fails(affmae("segment", finetuned, tmp_path / "color.png", "--out", tmp_path / "out"), "3 channels", "made for 1")


def test_labels_of_another_shape(affmae, images, tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.eye(50, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    words = ("finetune", "scratch:tiny", "--images", images, "--labels", tmp_path, "--out", tmp_path / "run", *ONE_STEP)
    fails(affmae(*words), "50 × 50")


def test_labels_with_one_class_and_with_none(affmae, images, tmp_path):
    words = ("finetune", "scratch:tiny", "--images", images, "--labels", tmp_path, "--out", tmp_path / "run", *ONE_STEP)
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(tmp_path / "a.png")
    fails(affmae(*words), "only class 0", "at least two classes")
    fails(affmae(*words, "--sparse"), "hold no paint")


def test_unknown_preset_from_scratch_is_wrong_usage(affmae, images, labels, tmp_path):
    words = ("finetune", "scratch:huge", "--images", images, "--labels", labels, "--out", tmp_path / "run", *ONE_STEP)
    fails(affmae(*words), "unknown preset 'huge'", code=2)


def test_checkpoint_that_is_none(affmae, tmp_path):
    (tmp_path / "paper.pth").write_bytes(b"PK\x03\x04 nothing")
    fails(affmae("import-checkpoint", tmp_path / "paper.pth", "--out", tmp_path / "m.safetensors"), "cannot be read")


def test_checkpoint_that_would_run_code_is_refused(affmae, tmp_path):
    import torch

    marker = tmp_path / "marker"
    torch.save({"model": _Trap(str(marker))}, tmp_path / "paper.pth")
    fails(affmae("import-checkpoint", tmp_path / "paper.pth", "--out", tmp_path / "m.safetensors"), "cannot be read")
    assert not marker.exists()


@pytest.mark.parametrize("command", ["pretrain", "finetune", "segment", "inspect", "evaluate", "bench"])
def test_a_wrong_word_for_the_kernels(affmae, images, labels, finetuned, tmp_path, monkeypatch, command):
    monkeypatch.setenv("AFFMAE_KERNELS", "fast")
    labelled = ("--images", images, "--labels", labels)
    words = {
        "pretrain": ("pretrain", images, "--out", tmp_path / "run", *ONE_STEP),
        "finetune": ("finetune", finetuned, *labelled, "--out", tmp_path / "run", *ONE_STEP),
        "segment": ("segment", finetuned, images / "a.png", "--out", tmp_path / "out"),
        "inspect": ("inspect", finetuned, images / "a.png", "--out", tmp_path / "out"),
        "evaluate": ("evaluate", finetuned, *labelled),
        "bench": ("bench", "--case", "cpu-train"),
    }[command]
    fails(affmae(*words), "AFFMAE_KERNELS must be auto, pytorch or triton, got 'fast'")


def test_kernels_that_cannot_run_here(affmae, images, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    words = ("pretrain", images, "--out", tmp_path / "run", *ONE_STEP, "--device", "cpu")
    fails(affmae(*words), "AFFMAE_KERNELS=triton", "need a CUDA device", "use auto or pytorch")


@pytest.mark.parametrize("command", ["pretrain", "segment"])
def test_a_kernel_that_fails_names_itself_and_the_way_out(affmae, images, finetuned, tmp_path, monkeypatch, command):
    import torch
    from affmae_kernels._kernel_error import launching
    from affmae_kernels.attention import op

    def broken(*args, **options):
        with launching("cluster_attention", torch.device("cpu")):
            raise RuntimeError("PassManager::run failed\n  at line 7")

    pytest.importorskip("triton")
    monkeypatch.setattr(op, "runs_in_triton", lambda *args: True)
    monkeypatch.setattr(op, "cluster_attention_op", broken)
    words = {
        "pretrain": ("pretrain", images, "--out", tmp_path / "run", *ONE_STEP),
        "segment": ("segment", finetuned, images / "a.png", "--out", tmp_path / "out"),
    }[command]
    fails(
        affmae(*words, "--device", "cpu"),
        "the Triton kernel of cluster_attention failed", "PassManager::run failed", "set AFFMAE_KERNELS=pytorch",
    )  # fmt: skip


class _Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_out_is_a_file(affmae, images, tmp_path):
    (tmp_path / "run").write_text("in the way")
    fails(affmae("pretrain", images, "--out", tmp_path / "run", *ONE_STEP), "cannot write")


def test_full_disk_leaves_no_half_a_file(affmae, images, finetuned, tmp_path, monkeypatch):
    import tifffile

    def full(place, *args, **options):
        place.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    fails(affmae("segment", finetuned, images / "a.png", "--out", tmp_path), "No space left on device", "free some space")
    assert list(tmp_path.iterdir()) == []


def test_exhausted_memory_names_a_way_out(affmae, images, tmp_path, monkeypatch):
    import torch

    def exhausted(self, *args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(MaskedAutoencoder, "forward", exhausted)
    fails(affmae("pretrain", images, "--out", tmp_path / "run", *ONE_STEP), "memory")


def test_demo_without_napari_says_how_to_install_it(affmae, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "napari" else real(name, *rest))
    fails(affmae("demo", "--headless"), "napari is not installed", "pip install 'napari[all]'")


class _Broken(ModuleType):
    """Stands for a module of ours whose own imports fail."""

    def __init__(self, missing: str) -> None:
        super().__init__("broken")
        self.missing = missing

    def __getattr__(self, name: str) -> object:
        raise ModuleNotFoundError(f"No module named {self.missing!r}", name=self.missing)


def test_incomplete_installation_is_said_in_one_line(affmae, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari_affmae.engine.doctor", _Broken("torch"))
    fails(affmae("doctor"), "No module named 'torch'", "install napari-affmae again")


def test_missing_module_of_ours_is_a_bug_and_shows_its_traceback(affmae, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari_affmae.engine.doctor", _Broken("napari_affmae.engine.lost"))
    with pytest.raises(ModuleNotFoundError):
        affmae("doctor")


def test_json_holds_no_nan(capsys):
    from napari_affmae.cli.output import print_result

    print_result({"miou": float("nan"), "matrix": np.eye(2), "part": np.float32(0.5)}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"miou": None, "matrix": [[1, 0], [0, 1]], "part": 0.5}
