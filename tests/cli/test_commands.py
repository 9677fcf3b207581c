"""Each command does its job, says so as JSON, and keeps progress off stdout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from skimage.io import imread

from napari_affmae.cli import main
from napari_affmae.errors import LabelError
from napari_affmae.model_header import read_card

SMALL = ("--tile", 32, "--batch", 1)


def test_pretrain_reports_as_json_and_lists_what_it_skipped(affmae, images, tmp_path):
    result = affmae("pretrain", images, "--out", tmp_path / "run", "--steps", 2, *SMALL, "--json")
    assert result.code == 0
    figures = json.loads(result.out)
    assert figures["steps"] == 2
    assert figures["images"] == 3
    assert np.isfinite(figures["loss"])
    assert read_card(figures["model"]).kind == "mae"
    assert "broken.png" in result.err
    assert "pretrain on cpu" in result.err


def test_resume_takes_the_settings_of_the_run(affmae, images, pretrained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    result = affmae("pretrain", images, "--out", run, "--steps", 4, "--resume", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["steps"] == 4
    assert "from step 2" in result.err
    assert json.loads((run / "config.json").read_bytes())["settings"]["tile"] == 32


def test_pretrain_takes_and_keeps_the_selection(affmae, images, tmp_path):
    words = ("pretrain", images, "--out", tmp_path / "run", *SMALL)
    assert affmae(*words, "--steps", 1, "--selection", "local").code == 0
    assert read_card(tmp_path / "run").config.selection == "local"
    assert affmae(*words, "--steps", 2, "--resume").code == 0
    assert read_card(tmp_path / "run").config.selection == "local"


def test_pretrain_takes_a_tile_that_fits_unless_told(affmae, images, tmp_path):
    run = tmp_path / "run"
    result = affmae("pretrain", images, "--out", run, "--steps", 1, "--batch", 1, "--device", "cpu")
    assert result.code == 0, result.err
    assert json.loads((run / "config.json").read_bytes())["settings"]["tile"] == 96


def test_files_option_selects_a_split(affmae, images, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("file,split\na.png,train\nb.png,test\nsub/c.png,train\n")
    result = affmae("pretrain", images, "--out", tmp_path / "run", "--files", f"{table}:train", "--steps", 1, *SMALL, "--json")
    assert json.loads(result.out)["images"] == 2


def test_finetune_from_scratch_keeps_the_class_table(affmae, images, labels, tmp_path):
    run = tmp_path / "run"
    words = ("finetune", "scratch:tiny", "--images", images, "--labels", labels, "--out", run, "--steps", 1, *SMALL)
    result = affmae(*words, "--json")
    assert result.code == 0, result.err
    header = read_card(json.loads(result.out)["model"])
    assert header.kind == "segmenter"
    assert [(info.id, info.name) for info in header.card.classes] == [(0, "class 0"), (1, "class 1")]


def test_finetune_hands_its_recipe_on(affmae, images, labels, tmp_path):
    words = (
        "finetune",
        "scratch:tiny",
        "--images",
        images,
        "--labels",
        labels,
        "--out",
        tmp_path / "run",
        "--steps",
        1,
        *SMALL,
    )
    assert affmae(*words, "--deform", 0.5, "--focus", 2, "--average", 0.9).code == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (settings["deform"], settings["focus"], settings["average"]) == (0.5, 2, 0.9)


def test_segment_writes_one_label_file_per_image_in_the_ids_of_the_class_table(affmae, images, finetuned, tmp_path):
    result = affmae("segment", finetuned, images, "--out", tmp_path, "--probabilities", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in report["written"]] == ["a.tif", "b.tif", "sub/c.tif"]
    assert report["skipped"] == ["broken.png"]
    ids = {info["id"] for info in report["classes"]}
    for path in report["written"]:
        labels = tifffile.imread(path)
        assert labels.shape == (96, 96)
        assert set(np.unique(labels)) <= ids
        probabilities = tifffile.imread(path.replace(".tif", "_probabilities.tif"))
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(axis=0), labels)  # ids are 0 and 1 here


def test_segment_names_the_pages_of_a_stack(affmae, images, finetuned, tmp_path):
    stack = tmp_path / "stack.tif"
    pages = [imread(images / name) for name in ("a.png", "b.png")]
    tifffile.imwrite(stack, np.stack(pages), photometric="minisblack")
    result = affmae("segment", finetuned, stack, "--out", tmp_path / "out", "--json")
    assert [Path(path).name for path in json.loads(result.out)["written"]] == ["stack_0.tif", "stack_1.tif"]


def test_segment_as_ome_zarr(affmae, images, finetuned, tmp_path):
    result = affmae("segment", finetuned, images / "a.png", "--out", tmp_path, "--format", "ome-zarr", "--probabilities")
    assert result.code == 0, result.err
    root = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert root["labels/segmentation/0"].shape == (96, 96)
    np.testing.assert_array_equal(root["0"][0], imread(images / "a.png"))


def test_segment_never_overwrites_unasked(affmae, images, finetuned, tmp_path):
    words = ("segment", finetuned, images / "a.png", "--out", tmp_path)
    (tmp_path / "a.tif").write_bytes(b"precious")
    refused = affmae(*words)
    assert refused.code == 1
    assert "a.tif is there already" in refused.err
    assert "--overwrite" in refused.err
    assert (tmp_path / "a.tif").read_bytes() == b"precious"
    assert affmae(*words, "--overwrite").code == 0
    assert tifffile.imread(tmp_path / "a.tif").shape == (96, 96)


def test_images_of_one_stem_do_not_share_an_output(affmae, images, finetuned, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(images / "a.png", folder / "a.png")
    tifffile.imwrite(folder / "a.tif", imread(images / "b.png"))
    result = affmae("segment", finetuned, folder, "--out", tmp_path / "out", "--json")
    assert {Path(path).name for path in json.loads(result.out)["written"]} == {"a.png.tif", "a.tif.tif"}


def test_evaluate_reports_per_class_iou(affmae, images, labels, finetuned):
    result = affmae("evaluate", finetuned, "--images", images, "--labels", labels, "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert set(figures["iou"]) == {"class 0", "class 1"}
    assert figures["miou"] == pytest.approx(sum(figures["iou"].values()) / 2)
    assert figures["pixels"] == 3 * 96 * 96
    assert np.sum(figures["confusion"]) == figures["pixels"]


def test_evaluate_agrees_with_what_segment_wrote(affmae, images, labels, finetuned, tmp_path):
    affmae("segment", finetuned, images, "--out", tmp_path)
    right = sum(
        int((tifffile.imread(tmp_path / name).astype(int) == imread(labels / f"{name[:-4]}.png")).sum())
        for name in ("a.tif", "b.tif", "sub/c.tif")
    )
    result = affmae("evaluate", finetuned, "--images", images, "--labels", labels, "--json")
    assert json.loads(result.out)["accuracy"] == pytest.approx(right / (3 * 96 * 96))


def test_evaluate_never_takes_paint_for_dense_classes(affmae, images, labels, finetuned, tmp_path):
    paint = np.asarray(Image.open(labels / "a.png")) + 1
    paint[40:60] = 0
    Image.fromarray(paint).save(tmp_path / "a.png")
    words = ("evaluate", finetuned, "--images", images / "a.png", "--sparse", "--labels")
    result = affmae(*words, tmp_path / "a.png")
    assert result.code == 1
    assert "the classes count from 0 (class 0)" in result.err
    assert "without --sparse" in result.err


def test_evaluate_compares_with_a_network_from_scratch(affmae, images, labels, pretrained):
    words = ["evaluate", pretrained, "--images", images, "--labels", labels, "--compare", "scratch", "--steps", "2", "--json"]
    result = affmae(*words)
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert 0 <= figures["miou"] <= 1
    assert set(figures["scratch"]["iou"]) == {"class 0", "class 1"}
    assert figures["gain"] == pytest.approx(figures["miou"] - figures["scratch"]["miou"])
    assert f"{figures['miou']:.2f}" in figures["verdict"]


def test_evaluate_trains_in_the_tiles_that_were_asked_for(affmae, images, labels, pretrained, monkeypatch):
    seen = []

    def compare(model, examples, folder, config, **given):
        seen.append(config)
        raise LabelError("enough")

    monkeypatch.setattr("napari_affmae.engine.compare.compare", compare)
    affmae("evaluate", pretrained, "--images", images, "--labels", labels, "--compare", "scratch", "--tile", 48)
    assert [config.tile for config in seen] == [48]


def test_people_are_told_what_figures_mean(affmae, images, labels, pretrained, finetuned, tmp_path):
    shown = affmae("evaluate", finetuned, "--images", images, "--labels", labels).out
    assert "majority_miou" not in shown
    assert "for calling every pixel" in shown
    shown = affmae("inspect", pretrained, images / "a.png", "--out", tmp_path / "tokens").out
    assert "directions" in shown


@pytest.mark.parametrize("run", ["pretrained", "finetuned"])
def test_inspect_writes_pictures_of_the_image_size_and_numbers(affmae, images, tmp_path, run, request):
    result = affmae("inspect", request.getfixturevalue(run), images / "a.png", "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 4 * 4 + 1
    stages = [f"stage-{number}" for number in range(1, 5)]
    assert sorted({path.name.split("_")[0] for path in pictures}) == ["pca.png", *stages], "as the dock calls them"
    assert {imread(path).shape for path in pictures} == {(96, 96, 3)}
    report = json.loads((tmp_path / "out" / "inspection.json").read_bytes())
    counts = [stage["tokens"] for stage in report["stages"]]
    assert counts == sorted(counts, reverse=True)
    for stage in report["stages"]:
        positions = np.array(stage["positions_rc"])
        assert positions.shape == (stage["tokens"], 2)
        assert positions.min() >= 0
        assert positions.max() <= 96


def test_a_page_of_a_stack_is_the_one_that_was_asked_for_whichever_others_are_usable(affmae, pretrained, tmp_path):
    pages = np.random.default_rng(0).integers(0, 255, (3, 32, 32), np.uint8)
    pages[1] = 7
    stack, out = tmp_path / "stack.tif", tmp_path / "out"
    tifffile.imwrite(stack, pages, photometric="minisblack")
    for page in (0, 2):
        result = affmae("inspect", pretrained, stack, "--page", page, "--out", out, "--overwrite")
        assert result.code == 0, result.err
        assert f"stack.tif has 3 pages; this is page {page}" in result.err
        assert json.loads((out / "inspection.json").read_bytes())["image"] == f"stack.tif[{page}]"
    refused = affmae("inspect", pretrained, stack, "--page", 1, "--out", tmp_path / "other")
    assert refused.code == 1
    assert "page 1 of stack.tif cannot be used (constant: every value is 7)" in refused.err
    refused = affmae("inspect", pretrained, stack, "--page", 3, "--out", tmp_path / "other")
    assert refused.code == 2
    assert "--page 3 was asked for, but stack.tif has 3 pages" in refused.err


def test_a_folder_is_not_inspected_for_one_of_its_images(affmae, pretrained, images, tmp_path):
    refused = affmae("inspect", pretrained, images, "--out", tmp_path / "out")
    assert refused.code == 1
    assert "is a folder; give one of its images" in refused.err


def test_import_checkpoint_of_the_golden_model(affmae, tmp_path):
    golden = Path(__file__).parents[3] / "shared" / "golden" / "seg_cluster.npz"
    if not golden.is_file():
        pytest.skip("the golden tensors are not here")
    import torch

    with np.load(golden) as arrays:
        state = {name.removeprefix("param:"): torch.from_numpy(arrays[name]) for name in arrays if name.startswith("param:")}
    torch.save({"model_state_dict": state}, tmp_path / "paper.pth")
    target = tmp_path / "paper.safetensors"
    result = affmae("import-checkpoint", tmp_path / "paper.pth", "--out", target, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["kind"] == "segmenter"
    assert read_card(target).config.position_code == "batch"
    assert affmae("import-checkpoint", tmp_path / "paper.pth", "--out", target).code == 1


@pytest.mark.parametrize(
    "command", ["demo", "pretrain", "finetune", "segment", "inspect", "evaluate", "import-checkpoint", "doctor", "project"]
)
def test_every_command_has_help(affmae, command):
    result = affmae(command, "--help")
    assert result.code == 0
    assert "Usage" in result.out


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from napari_affmae.cli import main\n"
        "assert main(['pretrain', '--help']) == 0\n"
        "heavy = {'torch', 'triton', 'napari', 'qtpy', 'skimage', 'zarr', 'affmae_kernels'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=_environment(), timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="a console signal would reach the test runner as well")
def test_interrupt_saves_and_exits_with_130(images, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["pretrain", images, "--out", run, "--minutes", "5", "--tile", "32", "--batch", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_affmae", *map(str, words)], stderr=subprocess.PIPE, text=True, env=_environment()
    )
    try:
        deadline = time.monotonic() + 60
        while not (run / "log.jsonl").is_file() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, error
    assert "stopped on request; saved in" in error
    assert read_card(run).kind == "mae"
    assert main(["pretrain", str(images), "--out", str(run), "--steps", "100000", "--resume", "--preset", "small"]) == 2
    assert "another size than --preset small: resume it without --preset" in capsys.readouterr().err
    assert main(["pretrain", str(images), "--out", str(run), "--steps", "1", "--resume", "--preset", "tiny"]) == 0


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root / "src", root / "kernels"))), "OMP_NUM_THREADS": "1"}


def test_resume_on_other_images_than_the_run_began_with_is_refused(affmae, images, tmp_path):
    (tmp_path / "list.txt").write_text("a\nb\n")
    words = ("pretrain", images, "--out", tmp_path / "run", *SMALL)
    assert affmae(*words, "--files", tmp_path / "list.txt", "--steps", 1).code == 0
    refused = affmae(*words, "--resume", "--steps", 2)
    assert refused.code == 2
    assert "began with 2 images, but 1 more is given now (sub/c.png): " in refused.err
    assert "--files" in refused.err
    assert affmae(*words, "--files", tmp_path / "list.txt", "--resume", "--steps", 2).code == 0


def test_resuming_a_finished_run_says_that_it_is_finished(affmae, images, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "run")
    result = affmae("pretrain", images, "--out", tmp_path / "run", "--resume")
    assert result.code == 0
    assert "finished already, after 2 steps" in result.err


def test_people_see_counts_and_programs_see_lists(affmae, images, pretrained, finetuned, tmp_path):
    out = tmp_path / "out"
    shown = affmae("segment", finetuned, images, "--out", out).out
    assert f"3 images in {out}" in shown
    assert "kept" not in shown
    assert "a.tif" not in shown
    assert "skipped  broken.png" in shown
    shown = affmae("inspect", pretrained, images / "a.png", "--out", tmp_path / "tokens").out
    assert f"files in {tmp_path / 'tokens'}" in shown
    assert ".png" not in shown
    assert "normalised" not in shown
    shown = affmae("card", finetuned, "--images", images).out
    assert "comparable" not in shown


def test_the_loss_of_a_run_is_the_one_in_its_card(affmae, images, tmp_path):
    run = tmp_path / "run"
    words = ("pretrain", images, "--out", run, "--steps", 3, *SMALL)
    shown = affmae(*words).out
    loss = next(line for line in shown.splitlines() if line.startswith("loss"))
    assert loss.split("(")[0].split(None, 1)[1].strip() in affmae("card", run).out
    for unexplained in ("res2", "res5", "left_out_steps"):
        assert unexplained not in shown


def test_channels_are_chosen_in_training_and_kept_by_resume(affmae, images, labels, tmp_path):
    folder, run = tmp_path / "color", tmp_path / "run"
    folder.mkdir()
    grey = imread(images / "a.png")
    Image.fromarray(np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)).save(folder / "a.png")
    words = ("pretrain", folder, "--out", run, *SMALL)
    assert affmae(*words, "--steps", 1, "--channels", 1).code == 0
    assert read_card(run).config.in_channels == 1
    assert affmae(*words, "--steps", 2, "--resume").code == 0
    other = affmae(*words, "--steps", 3, "--resume", "--channels", 2)
    assert other.code == 2
    assert "took channels 1 of them, and now channels 2" in other.err
    labelled = ("--images", folder, "--labels", labels, "--channels", 0)
    tuned = affmae("finetune", run, *labelled, "--out", tmp_path / "tuned", "--steps", 1, *SMALL)
    assert tuned.code == 0, tuned.err
    assert affmae("evaluate", tmp_path / "tuned", *labelled).code == 0
    assert affmae("finetune", run, *labelled, "--out", tmp_path / "tuned", "--steps", 2, *SMALL, "--resume").code == 0


def test_what_runs_is_said_before_the_first_image_and_tiles_are_called_so(affmae, images, finetuned, tmp_path):
    lines = affmae("segment", finetuned, images, "--out", tmp_path).err.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("segment on"))
    assert lines[first + 1 : first + 4] == ["image 1/3  a.png", "image 2/3  b.png", "image 3/3  sub/c.png"]
    assert not any(line.startswith("image") for line in lines[:first])
