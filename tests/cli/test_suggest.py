"""``suggest`` writes how unsure a model is and names places, consistent with what ``segment`` predicts."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_affmae.engine.uncertainty import uncertainty


def test_it_writes_the_uncertainty_and_the_places(affmae, images, finetuned, pretrained, tmp_path):
    out = tmp_path / "out"
    result = affmae("suggest", finetuned, images, "--out", out, "--features", pretrained, "--count", 5, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert len(report["places"]) == 5
    assert [place["rank"] for place in report["places"]] == [1, 2, 3, 4, 5]
    assert {place["image"] for place in report["places"]} <= {"a.png", "b.png", "sub/c.png"}
    assert json.loads((out / "suggestions.json").read_bytes())["places"] == report["places"]
    assert "broken.png" in result.err
    affmae("segment", finetuned, images, "--out", tmp_path / "segmented", "--probabilities")
    for name in ("a", "b", "sub/c"):
        values = tifffile.imread(out / f"{name}_uncertainty.tif")
        expected = uncertainty(tifffile.imread(tmp_path / "segmented" / f"{name}_probabilities.tif"))
        np.testing.assert_allclose(values, expected, atol=1e-5)
    assert affmae("suggest", finetuned, images, "--out", tmp_path / "again", "--features", pretrained, "--count", 5).code == 0
    assert (tmp_path / "again" / "suggestions.json").read_bytes() == (out / "suggestions.json").read_bytes()


def test_painted_places_are_left_alone(affmae, images, finetuned, tmp_path):
    paint = np.zeros((96, 96), np.uint8)
    paint[:, :48] = 1
    (tmp_path / "labels").mkdir()
    Image.fromarray(paint).save(tmp_path / "labels" / "a.png")
    words = ("suggest", finetuned, images / "a.png", "--labels", tmp_path / "labels" / "a.png")
    result = affmae(*words, "--out", tmp_path / "out", "--json")
    assert result.code == 0, result.err
    places = json.loads(result.out)["places"]
    assert places
    assert all(place["column"] >= 48 and place["unlike"] < 1 for place in places)


@pytest.mark.parametrize("third", ["unpainted", "missing"])
def test_paint_that_cannot_be_used_is_said_and_images_without_any_are_not(affmae, images, finetuned, tmp_path, third):
    labels = tmp_path / "labels"
    (labels / "sub").mkdir(parents=True)
    Image.fromarray(np.eye(96, dtype=np.uint8)).save(labels / "a.png")
    Image.fromarray(np.eye(50, dtype=np.uint8)).save(labels / "b.png")
    if third == "unpainted":
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(labels / "sub" / "c.png")
    result = affmae("suggest", finetuned, images, "--labels", labels, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    notes = [line for line in result.err.splitlines() if line.startswith("note: skipped")]
    assert [note.split()[2] for note in notes] == ["broken.png:", "b.png:"]
    assert "50 × 50" in notes[1]


def test_it_never_overwrites_unasked_and_wants_a_segmenter(affmae, images, finetuned, pretrained, tmp_path):
    words = ("suggest", finetuned, images / "a.png", "--out", tmp_path)
    (tmp_path / "a_uncertainty.tif").write_bytes(b"precious")
    refused = affmae(*words)
    assert refused.code == 1
    assert "a_uncertainty.tif is there already" in refused.err
    assert (tmp_path / "a_uncertainty.tif").read_bytes() == b"precious"
    assert affmae(*words, "--overwrite").code == 0
    assert "suggestions.json is there already" in affmae(*words).err
    wrong = affmae("suggest", pretrained, images / "a.png", "--out", tmp_path / "other")
    assert wrong.code == 1
    assert "finetune it on labels first" in wrong.err


def places_in(folder):
    return json.loads((folder / "suggestions.json").read_bytes())["places"]


def test_resume_predicts_what_is_new_and_looks_for_places_in_all(affmae, images, finetuned, tmp_path):
    """A run that is taken up ends as one that was never cut."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(images / "a.png", folder)
    words = ("suggest", finetuned, folder, "--out", out)
    assert affmae(*words).code == 0
    before = (out / "a_uncertainty.tif").stat().st_mtime_ns
    shutil.copy(images / "b.png", folder)
    refused = affmae(*words)
    assert refused.code == 1
    assert "--resume to go on" in refused.err
    result = affmae(*words, "--resume", "--json")
    assert result.code == 0, result.err
    assert {place["image"] for place in json.loads(result.out)["places"]} == {"a.png", "b.png"}
    assert (out / "a_uncertainty.tif").stat().st_mtime_ns == before
    assert affmae("suggest", finetuned, folder, "--out", tmp_path / "whole").code == 0
    assert places_in(out) == places_in(tmp_path / "whole")
    fewer = affmae(*words, "--resume", "--count", 2, "--json")
    assert json.loads(fewer.out)["places"] == places_in(tmp_path / "whole")[:2], "how many places decides nothing else"


def test_resume_makes_an_image_anew_that_was_cut(affmae, images, finetuned, tmp_path):
    words = ("suggest", finetuned, images, "--out", tmp_path)
    assert affmae(*words).code == 0
    whole = places_in(tmp_path)
    (tmp_path / "b_uncertainty.tif").unlink()
    (tmp_path / "suggestions.json").unlink()
    log = tmp_path / "suggest.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(one) + "\n" for one in records if one["name"] != "b.png" or one["state"] == "begun"))
    assert affmae(*words, "--resume").code == 0
    assert places_in(tmp_path) == whole


def test_resume_with_other_settings_or_on_a_strangers_file_is_refused(affmae, images, finetuned, tmp_path):
    words = ("suggest", finetuned, images / "a.png", "--out", tmp_path, "--resume")
    (tmp_path / "suggestions.json").write_text("precious")
    assert "suggestions.json is there already" in affmae(*words).err
    assert (tmp_path / "suggestions.json").read_text() == "precious"
    (tmp_path / "suggestions.json").unlink()
    assert affmae(*words).code == 0
    other = affmae(*words, "--tile", 64)
    assert other.code == 2
    assert "no --tile, and now it is 64" in other.err
    (tmp_path / "a_uncertainty.tif").write_bytes(b"cut")
    cut = affmae(*words)
    assert cut.code == 1
    assert "pass --overwrite to make it anew" in cut.err


def test_channels_are_chosen(affmae, images, finetuned, tmp_path):
    gray = np.asarray(Image.open(images / "a.png"))
    (tmp_path / "in").mkdir()
    Image.fromarray(np.stack([255 - gray, gray, gray // 2], -1)).save(tmp_path / "in" / "a.png")
    words = ("suggest", finetuned, tmp_path / "in", "--out", tmp_path / "color")
    assert "3 channels" in affmae(*words).err
    result = affmae(*words, "--channels", 1)
    assert result.code == 0, result.err
    assert affmae("suggest", finetuned, images / "a.png", "--out", tmp_path / "gray").code == 0
    values = [tifffile.imread(tmp_path / kind / "a_uncertainty.tif") for kind in ("color", "gray")]
    np.testing.assert_array_equal(*values)
    assert "--channels 1, and now it is 2" in affmae(*words, "--channels", 2, "--resume").err


def test_tiles_are_counted_over_all_images(images, finetuned, tmp_path):
    from napari_affmae.data.scan import scan
    from napari_affmae.engine.suggest_files import suggest_to_files
    from napari_affmae.events import Progress, Started

    events = list(suggest_to_files(finetuned, scan(images), tmp_path))
    steps = [event for event in events if isinstance(event, Progress) and event.job == "segment"]
    total = steps[0].total_steps
    assert total == next(event for event in events if isinstance(event, Started)).total_steps
    assert {step.total_steps for step in steps} == {total}
    counts = [step.step for step in steps]
    assert counts == sorted(set(counts))
    assert counts[-1] == total
    assert [step.fraction for step in steps] == [step.step / total for step in steps]
