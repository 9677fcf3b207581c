"""The project folder: runs are numbered, interrupted ones are found."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from napari_affmae.config import Budget, FinetuneConfig, PretrainConfig
from napari_affmae.control import JobControl
from napari_affmae.data.project_folder import ImageEntry, ProjectFile, read_project, write_project
from napari_affmae.data.scan import scan
from napari_affmae.data.synthetic import synthetic_em
from napari_affmae.data.write import write_labels_tiff
from napari_affmae.engine.run_folder import RunFolder
from napari_affmae.errors import ConfigError, StorageError
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.model_file import save_model
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig
from napari_affmae.model_places import runs
from napari_affmae.widgets import project
from napari_affmae.widgets.jobs import Engine
from napari_affmae.widgets.project_writer import ProjectWriter
from napari_affmae.words import NOT_FITTED

CONFIG = PretrainConfig(model=ModelConfig.preset("tiny"), budget=Budget(minutes=1))


def test_runs_are_numbered_and_never_reused(tmp_path):
    assert project.new_run(tmp_path / "new", "pretrain").name == "pretrain-1"
    for number in (2, 10):
        (tmp_path / f"pretrain-{number}").mkdir()
    (tmp_path / "pretrain-11").write_text("a file is no run")
    (tmp_path / "finetune-3").mkdir()
    assert [path.name for path in runs(tmp_path, "pretrain")] == ["pretrain-2", "pretrain-10"]
    assert project.new_run(tmp_path, "pretrain").name == "pretrain-12"
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="pretrain-1"):
        project.new_run(tmp_path / "file", "pretrain")


def test_nobody_gets_the_run_of_another(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: project.new_run(tmp_path, "finetune"), range(40)))
    assert sorted(int(run.name.removeprefix("finetune-")) for run in made) == list(range(1, 41))


def test_the_project_is_named_after_the_images():
    assert project.default_project("/data/My cells (2)").name == "My-cells-2"
    assert project.default_project("").name == "project"


def write_run(path, step=3, seconds=30.0, config=CONFIG):
    folder = RunFolder(path / "pretrain-1")
    folder.begin("pretrain", config, {})
    folder.append_log({"step": step, "elapsed_seconds": seconds})
    folder.checkpoint.touch()
    return folder


def test_what_is_left_of_a_run_is_seen_by_the_engine_s_own_files(tmp_path):
    half = write_run(tmp_path / "half")
    assert project.last_run(tmp_path / "half", "pretrain") == project.LastRun(half.path, CONFIG, "", 30.0, is_over=False)
    write_run(tmp_path / "whole", seconds=60.5)
    whole = project.last_run(tmp_path / "whole", "pretrain")
    assert whole.is_over
    assert whole.seconds == 60.5
    steps = CONFIG.replace(budget=Budget(steps=3))
    write_run(tmp_path / "steps", step=3, config=steps)
    assert project.last_run(tmp_path / "steps", "pretrain").is_over


def test_time_after_the_last_step_counts(tmp_path):
    run = write_run(tmp_path, seconds=59.0)
    assert not project.last_run(tmp_path, "pretrain").is_over
    save_model(MaskedAutoencoder(CONFIG.model), run.model, steps=3, seconds=63.2)
    assert project.last_run(tmp_path, "pretrain") == project.LastRun(run.path, CONFIG, "", 63.2, is_over=True)


def test_only_the_last_run_is_taken_up(tmp_path):
    write_run(tmp_path)
    later = RunFolder(project.new_run(tmp_path, "pretrain"))
    assert project.last_run(tmp_path, "pretrain").run.name == "pretrain-1", "nothing was begun in the new one"
    later.begin("pretrain", CONFIG, {})
    assert project.last_run(tmp_path, "pretrain").run.name == "pretrain-1", "it ended before it saved anything"
    later.append_log({"step": 1, "elapsed_seconds": 1.0})
    later.checkpoint.touch()
    assert project.last_run(tmp_path, "pretrain").run == later.path


def test_an_interrupted_training_run_knows_what_it_started_from(tmp_path):
    config = FinetuneConfig(budget=Budget(minutes=1))
    folder = RunFolder(tmp_path / "finetune-1")
    folder.begin("finetune", config, {"start": "scratch:tiny"})
    folder.append_log({"step": 2, "elapsed_seconds": 20.0})
    folder.append_log({"step": 2, "miou": 0.5})
    folder.checkpoint.touch()
    assert project.last_run(tmp_path, "finetune") == project.LastRun(folder.path, config, "scratch:tiny", 20.0, is_over=False)
    assert project.last_run(tmp_path, "pretrain") is None


def test_a_run_is_found_behind_what_live_mode_saved_and_a_line_that_was_cut(tmp_path):
    folder = write_run(tmp_path)
    before = folder.log.read_text()
    folder.log.write_text(10_000 * '{"step": 1, "elapsed_seconds": 1.0}\n' + before)
    with folder.log.open("a") as log:
        log.write('{"step": 4, "elapsed_sec')
    (project.new_run(tmp_path, "pretrain") / "model.safetensors").touch()
    assert project.last_run(tmp_path, "pretrain").run == folder.path


@pytest.mark.parametrize(
    ("steps", "classes_from", "is_cut_short"),
    [(3, NOT_FITTED, True), (2, "readout", True), (3, "readout", False), (3, "heads", False)],
)
def test_a_run_whose_readout_is_still_to_be_fitted_is_taken_up(tmp_path, steps, classes_from, is_cut_short):
    config = FinetuneConfig(budget=Budget(steps=3))
    folder = RunFolder(tmp_path / "finetune-1")
    folder.begin("finetune", config, {"start": "scratch:tiny"})
    folder.append_log({"step": 3, "elapsed_seconds": 20.0})
    folder.checkpoint.touch()
    save_model(Segmenter(CONFIG.model, 2), folder.model, steps=steps, figures={"classes_from": classes_from})
    assert project.last_run(tmp_path, "finetune").is_over != is_cut_short


def test_what_is_no_run_is_not_resumed(tmp_path):
    assert project.last_run(tmp_path, "pretrain") is None
    write_run(tmp_path / "a").checkpoint.unlink()
    assert project.last_run(tmp_path / "a", "pretrain") is None
    write_run(tmp_path / "b").config.write_text(json.dumps({"job": "finetune", "settings": {}}))
    assert project.last_run(tmp_path / "b", "pretrain") is None
    for name, log in (("c", "cut of"), ("d", json.dumps({"step": 3, "miou": 0.5})), ("e", "")):
        write_run(tmp_path / name).log.write_text(log)
        assert project.last_run(tmp_path / name, "pretrain") is None


@pytest.mark.parametrize("changed", ["added", "edited"])
def test_taking_up_a_run_after_its_folder_changed_is_refused_in_words(tmp_path, changed):
    for seed in range(2):
        write_labels_tiff(tmp_path / "images" / f"{seed}.tif", synthetic_em(64, seed)[0])
    engine, run = Engine(), tmp_path / "run"
    small = ModelConfig.preset("tiny", embed_dims=(12, 24, 48, 64), depths=(1, 1, 1, 1), decoder_dim=32)
    config = PretrainConfig(model=small, budget=Budget(steps=1), tile=32, batch=1)
    list(engine.pretrain(scan(tmp_path / "images"), run, config, resume=False, control=JobControl()))
    write_labels_tiff(
        tmp_path / "images" / ("2.tif" if changed == "added" else "1.tif"), synthetic_em(64, 5)[0], overwrite=True
    )
    more = config.replace(budget=Budget(steps=2))
    with pytest.raises(ConfigError, match=r"began with 2 images, but .*start a new run"):
        list(engine.pretrain(scan(tmp_path / "images"), run, more, resume=True, control=JobControl()))


def test_what_another_window_wrote_is_read_once(tmp_path, monkeypatch):
    entry = ImageEntry(labels="labels/a")
    ours, theirs = (ProjectFile(images={name: entry}) for name in ("ours", "theirs"))
    writer, reads = ProjectWriter(tmp_path, ProjectFile()), []

    def read(folder):
        reads.append(folder)
        return read_project(folder)

    monkeypatch.setattr("napari_affmae.widgets.project_writer.read_project", read)
    write_project(tmp_path, theirs)
    for _ in range(3):
        writer.save(ours, ())
        assert set(read_project(tmp_path).images) == {"ours", "theirs"}
    assert len(reads) == 1
    write_project(tmp_path, ours.replace(images={**theirs.images, "late": entry}))
    writer.save(ours, ())
    assert set(read_project(tmp_path).images) == {"theirs", "late"}, "they took ours away, and we changed nothing of it"
