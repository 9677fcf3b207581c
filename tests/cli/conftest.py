"""A small folder of images with labels, and models trained on it for a few steps, all through the command line itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_affmae.cli import main
from napari_affmae.data.synthetic import synthetic_em

SIZE = 96


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def affmae(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three micrographs, one in a subfolder, and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray(synthetic_em(SIZE, seed)[0]).save(folder / name)
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dense labels of the micrographs, 0 and 1."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / "sub").mkdir()
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray((synthetic_em(SIZE, seed)[1] > 0).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def pretrained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of two pretraining steps."""
    run = tmp_path_factory.mktemp("runs") / "pretrained"
    assert main(["pretrain", str(images), "--out", str(run), "--steps", "2", "--tile", "32", "--batch", "1"]) == 0
    return run


@pytest.fixture(scope="session")
def finetuned(pretrained: Path, images: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of two finetuning steps."""
    run = tmp_path_factory.mktemp("runs") / "finetuned"
    words = ["finetune", pretrained, "--images", images, "--labels", labels, "--out", run, "--steps", "2", "--tile", "32"]
    assert main([*map(str, words), "--batch", "1"]) == 0
    return run
