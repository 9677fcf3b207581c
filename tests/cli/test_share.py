"""The commands card and export."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.io import imread

from napari_affmae.engine import export as export_module
from napari_affmae.errors import AffmaeError
from napari_affmae.zoo import why_not_export


def test_card_says_what_a_model_is(affmae, finetuned):
    result = affmae("card", finetuned)
    assert result.code == 0
    for part in ("Segmentation network, 2 classes", "1  Pretrained on 3 images", "2  Trained on 3 images with labels", "loss"):
        assert part in result.out
    assert result.err == ""
    whole = json.loads(affmae("card", finetuned, "--json").out)
    assert [record["job"] for record in whole["card"]["history"]] == ["pretrain", "finetune"]
    record = whole["card"]["history"][1]
    assert record["curve"]["steps"] == [1, 2]
    assert record["settings"]["tile"] == 32
    assert len(record["data"]["labels"]["hashes"]) == 3


def test_card_finds_images_that_a_model_was_trained_on_whatever_they_are_called(affmae, pretrained, images, tmp_path):
    """Two steps read one or two of the three images; a renamed copy in another format is found, a changed one is not."""
    seen = json.loads(affmae("card", pretrained, "--images", images, "--json").out)["images"]
    known = seen["trained_on"]["pretrain"]
    assert known
    assert sorted(known + seen["new"]) == ["a.png", "b.png", "sub/c.png"]
    pixels = imread(images / known[0])
    Image.fromarray(pixels).save(tmp_path / "renamed.tif")
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "changed.png")
    result = affmae("card", pretrained, "--images", tmp_path)
    assert result.code == 0
    assert "pretrain  1: renamed.tif" in result.out
    assert "new to it   1: changed.png" in result.out


@pytest.fixture
def stained(tmp_path):
    """A folder of one image of three channels, and a grey image of the second of them."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    (tmp_path / "stained").mkdir()
    Image.fromarray(pixels).save(tmp_path / "stained" / "a.png")
    Image.fromarray(pixels[..., 1]).save(tmp_path / "green.png")
    return tmp_path / "stained"


@pytest.fixture
def of_one_channel(affmae, stained, tmp_path):
    """A network pretrained on the second channel."""
    words = ("pretrain", stained, "--out", tmp_path / "run", "--channels", 1, "--steps", 1, "--tile", 32, "--batch", 1)
    assert affmae(*words).code == 0
    return tmp_path / "run"


def test_card_compares_images_in_the_channels_that_a_model_was_trained_on(affmae, of_one_channel, stained, tmp_path):
    def seen(*words):
        result = affmae("card", of_one_channel, "--images", *words, "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)["images"]

    assert seen(stained)["trained_on"] == {"pretrain": ["a.png"]}
    assert seen(tmp_path / "green.png")["trained_on"] == {"pretrain": ["green.png"]}
    assert seen(stained, "--channels", 1)["new"] == []
    assert seen(stained, "--channels", 2)["new"] == ["a.png"]
    assert "channels     1 (counted from 0)" in affmae("card", of_one_channel).out


def test_an_image_is_inspected_in_the_channels_that_are_chosen(affmae, of_one_channel, stained, tmp_path):
    refused = affmae("inspect", of_one_channel, stained / "a.png", "--out", tmp_path / "all")
    assert "--channels" in refused.err
    for image, *channels in ((stained / "a.png", "--channels", 1), (tmp_path / "green.png",)):
        result = affmae("inspect", of_one_channel, image, *channels, "--out", tmp_path / image.stem)
        assert result.code == 0, result.err
    tokens = [json.loads((tmp_path / name / "inspection.json").read_bytes())["stages"] for name in ("a", "green")]
    assert tokens[0] == tokens[1]


def test_card_of_a_file_that_is_none(affmae, images, tmp_path):
    result = affmae("card", images / "a.png")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "copy it again from where it came from" in result.err


def test_export_without_the_library_is_one_line(affmae, finetuned, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "why_not_export", lambda: 'it takes: pip install "napari-affmae[bioimageio]"')
    result = affmae("export", finetuned, "--out", tmp_path / "m.zip")
    assert (result.code, result.out) == (1, "")
    assert result.err == 'napari-affmae: it takes: pip install "napari-affmae[bioimageio]"\n'


@pytest.mark.skipif(why_not_export() is not None, reason=f"{why_not_export()}")
@pytest.mark.filterwarnings("ignore")
def test_export_writes_a_package_that_runs_elsewhere(affmae, finetuned, images, tmp_path):
    out = tmp_path / "m.zip"
    words = ["export", finetuned, "--out", out, "--image", images / "b.png", "--author", "Ada Lovelace", "--name", "My cells"]
    result = affmae(*words, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["check"] == "passed: bioimageio.core ran it without napari"
    assert (report["name"], report["tile"], report["written"]) == ("My cells", 32, str(out))
    assert affmae(*words).code == 1
    assert affmae(*words, "--no-check", "--overwrite").code == 0
    # The exported file is not taken for a model of ours.
    again = affmae("segment", out, images, "--out", tmp_path / "labels")
    assert again.code == 1
    assert "load the .safetensors that it was made from" in again.err


def test_export_of_a_network_without_classes(affmae, pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "why_not_export", lambda: None)
    monkeypatch.setattr(export_module, "check_about", lambda config: None)
    result = affmae("export", pretrained, "--out", tmp_path / "m.zip")
    assert result.code == 1
    assert "finetune it on labels first" in result.err


def test_a_page_that_is_not_there(affmae, finetuned, images, tmp_path):
    result = affmae("export", finetuned, "--out", tmp_path / "m.zip", "--image", images / "a.png", "--page", 3)
    assert result.code == 2
    assert "--page 3" in result.err


def test_the_page_that_is_given_away_is_the_one_that_was_asked_for(affmae, finetuned, tmp_path, monkeypatch):
    pages = np.random.default_rng(0).integers(0, 255, (3, 32, 32), np.uint8)
    pages[1] = 7
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")

    def told(*_, sample, **__):
        raise AffmaeError(f"given away: {sample.name}")

    monkeypatch.setattr(export_module, "export", told)
    words = ("export", finetuned, "--out", tmp_path / "m.zip", "--image", tmp_path / "stack.tif", "--page")
    assert "given away: stack.tif[2]" in affmae(*words, 2).err
    assert "page 1 of stack.tif cannot be used" in affmae(*words, 1).err


def test_the_image_that_is_given_away_is_read_in_the_channels_that_are_chosen(
    affmae, finetuned, stained, tmp_path, monkeypatch
):
    def told(*_, sample, **__):
        raise AffmaeError(f"given away: {sample.read()[..., 0].sum()}")

    monkeypatch.setattr(export_module, "export", told)
    words = ("export", finetuned, "--out", tmp_path / "m.zip", "--image", stained / "a.png", "--channels", 1)
    assert f"given away: {imread(tmp_path / 'green.png').sum()}" in affmae(*words).err


def test_an_earlier_model_without_hashes_says_so(affmae, finetuned, images, tmp_path):
    from napari_affmae import load_model, save_model

    model = load_model(finetuned)
    history = tuple({key: part for key, part in record.items() if key != "data"} for record in model.card.history)
    model.card = model.card.replace(history=history)
    path = save_model(model, tmp_path / "old.safetensors")
    seen = json.loads(affmae("card", path, "--images", images, "--json").out)["images"]
    assert seen["comparable"] is False
    assert not any(seen["trained_on"].values())
    assert "does not say of all its trainings which images they read" in affmae("card", path, "--images", images).out
