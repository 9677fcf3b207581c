"""Files of a run are whole or not there, and every refusal says what to do."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from napari_affmae.config import PretrainConfig
from napari_affmae.engine.run_folder import RunFolder, write_whole
from napari_affmae.errors import ConfigError, StorageError


def test_a_run_that_saved_nothing_can_be_begun_again(tmp_path: Path, pretraining: PretrainConfig) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin("pretrain", pretraining, {})
    folder.append_log({"step": 1})
    folder.begin("pretrain", pretraining, {})
    assert not folder.log.exists()
    folder.checkpoint.write_bytes(b"weights")
    with pytest.raises(StorageError, match="holds a run: go on with it with --resume, or choose another folder"):
        folder.begin("pretrain", pretraining, {})


def test_a_run_that_died_before_its_first_checkpoint_was_whole_can_be_begun_again(
    tmp_path: Path, pretraining: PretrainConfig
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin("pretrain", pretraining, {})
    (folder.path / ".checkpoint.safetensors.123.partial").write_bytes(b"weig")
    folder.begin("pretrain", pretraining, {})
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


def test_a_network_stays_that_lost_its_checkpoint(tmp_path: Path, pretraining: PretrainConfig) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin("pretrain", pretraining, {})
    folder.model.write_bytes(b"weights")
    with pytest.raises(StorageError, match="holds a network without a checkpoint to go on from: choose another folder"):
        folder.begin("pretrain", pretraining, {})
    assert folder.model.read_bytes() == b"weights"


def test_a_model_that_is_of_no_run_is_not_overwritten(tmp_path: Path, pretraining: PretrainConfig) -> None:
    folder = RunFolder(tmp_path)
    folder.model.write_bytes(b"of live mode")
    with pytest.raises(StorageError, match="is not empty and holds no run"):
        folder.begin("pretrain", pretraining, {})


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path: Path, pretraining: PretrainConfig) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"is not empty and holds no run: choose a new or an empty folder"):
        RunFolder(tmp_path).begin("pretrain", pretraining, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no run to resume in .*: expected a file config.json; start it without --resume"):
        RunFolder(tmp_path / "none").check_resumable("pretrain", {})


def test_a_run_of_another_kind_is_not_resumed(tmp_path: Path, pretraining: PretrainConfig) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin("pretrain", pretraining, {})
    with pytest.raises(ConfigError, match="holds a pretrain run, not finetune"):
        folder.check_resumable("finetune", {})


def test_the_first_difference_is_named(tmp_path: Path, pretraining: PretrainConfig) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin("pretrain", pretraining, {})
    model = pretraining.model.model_dump(mode="json")
    folder.check_resumable("pretrain", {"model": model, "seed": 0})
    with pytest.raises(ConfigError, match=r"started with model.patch_size = 4, and now it is 8"):
        folder.check_resumable("pretrain", {"model": {**model, "patch_size": 8}})


def test_labels_that_are_read_in_another_way_are_told_by_their_classes(tmp_path: Path, pretraining: PretrainConfig) -> None:
    folder = RunFolder(tmp_path)
    cell, gap = ({"id": number, "name": name, "color": "#000000"} for number, name in enumerate(("cell", "gap"), 1))
    folder.begin("finetune", pretraining, {"classes": [cell, gap]})
    with pytest.raises(ConfigError) as caught:
        folder.check_resumable("finetune", {"classes": [{"id": 0, "name": "background", "color": "#000000"}, cell]})
    said = str(caught.value)
    assert "the classes 1 (cell), 2 (gap), and now they are 0 (background), 1 (cell)" in said
    assert "--sparse and --foreground as before" in said
    assert "{" not in said


def test_settings_that_are_no_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(StorageError, match="cannot be read"):
        RunFolder(tmp_path).check_resumable("pretrain", {})


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; free some space or choose another folder"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_too_small_a_disk_is_noticed_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    RunFolder(tmp_path).require_space(1000)
    with pytest.raises(StorageError, match="has 2 MB free, but this run needs about 97 MB more"):
        RunFolder(tmp_path).require_space(3_000_000)
    # Of a run that goes on, the files that will be replaced are there already.
    for name, size in (("model.safetensors", 12_000_000), ("checkpoint.safetensors", 36_000_000)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    usage = usage._replace(free=50_000_000)
    RunFolder(tmp_path).require_space(3_000_000)
    with pytest.raises(StorageError, match="has 50 MB free, but this run needs about 61 MB more"):
        RunFolder(tmp_path).require_space(3_375_000)


def test_the_log_forgets_what_will_be_done_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in range(1, 6):
        folder.append_log({"step": step})
    with folder.log.open("a") as file:
        file.write('{"step": 6, "lo')  # the process was killed here
    folder.truncate_log(3)
    assert [json.loads(line)["step"] for line in folder.log.read_text().splitlines()] == [1, 2, 3]
