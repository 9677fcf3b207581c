"""``suggest`` writes how unsure a model is and names places, consistent with what ``segment`` predicts."""

from __future__ import annotations

import json

import numpy as np
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
