"""A run that is resumed goes on with the images and labels it began with, or says what is different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_affmae.config import Budget, FinetuneConfig, PretrainConfig
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.records import ImageCollection
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine.finetune import finetune
from napari_affmae.engine.pretrain import pretrain
from napari_affmae.errors import ConfigError
from napari_affmae.events import Done, Notice

ONE, TWO = Budget(steps=1), Budget(steps=2)


def arrays(collection: ImageCollection) -> dict[str, np.ndarray]:
    return {record.name: record.read()[..., 0] for record in collection.records}


@pytest.fixture
def run(tmp_path: Path, collection: ImageCollection, pretraining: PretrainConfig) -> Path:
    list(pretrain(collection, tmp_path / "run", pretraining.replace(budget=ONE)))
    return tmp_path / "run"


def test_images_that_were_added_are_refused_and_named(
    run: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    first = next(iter(arrays(collection).values()))
    more = collection_from_arrays({**arrays(collection), "new.tif": first[::-1]})
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ConfigError, match=rf"began with {len(collection)} images.* 1 more .*new\.tif.*--files.*new run"):
        list(pretrain(more, run, pretraining.replace(budget=TWO), resume=True))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_images_that_are_missing_are_refused_and_named(
    run: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    there = arrays(collection)
    gone = sorted(there)[0]
    del there[gone]
    with pytest.raises(ConfigError, match=f"1 of them is not here .*{gone}"):
        list(pretrain(collection_from_arrays(there), run, pretraining.replace(budget=TWO), resume=True))


def test_an_image_of_the_same_name_and_size_with_other_pixels_is_refused(
    run: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    there = arrays(collection)
    changed = sorted(there)[-1]
    there[changed] = there[changed][::-1]
    with pytest.raises(ConfigError, match=f"{changed}.* other pixels"):
        list(pretrain(collection_from_arrays(there), run, pretraining.replace(budget=TWO), resume=True))


def test_a_run_of_an_earlier_version_goes_on_with_a_note_and_is_protected_from_then_on(
    run: Path, collection: ImageCollection, pretraining: PretrainConfig
) -> None:
    (run / "data.json").unlink()
    events = list(pretrain(collection, run, pretraining.replace(budget=TWO), resume=True))
    assert any("did not keep which images" in event.message for event in events if isinstance(event, Notice))
    there = arrays(collection)
    there.popitem()
    with pytest.raises(ConfigError, match="not here"):
        list(pretrain(collection_from_arrays(there), run, pretraining.replace(budget=TWO), resume=True))


def test_a_finished_run_says_so(run: Path, collection: ImageCollection, pretraining: PretrainConfig) -> None:
    events = list(pretrain(collection, run, pretraining.replace(budget=ONE), resume=True))
    assert isinstance(events[-1], Done)
    said = [event.message for event in events if isinstance(event, Notice)]
    assert any("finished already, after 1 step" in message and "--steps or --minutes" in message for message in said)


def test_finetuning_refuses_other_labels_and_other_images(
    tmp_path: Path, examples: list[LabelledImage], finetuning: FinetuneConfig
) -> None:
    config = finetuning.replace(budget=ONE, held_out=0)
    list(finetune("scratch:tiny", examples, tmp_path, config))
    painted = examples[0].labels.copy()
    painted[:5, :5] = 1 - painted[0, 0]
    other = [LabelledImage(examples[0].record, painted), *examples[1:]]
    with pytest.raises(ConfigError, match=rf"labels of {examples[0].name} .*are others"):
        list(finetune("scratch:tiny", other, tmp_path, config.replace(budget=TWO), resume=True))
    with pytest.raises(ConfigError, match="not here"):
        list(finetune("scratch:tiny", examples[:-1], tmp_path, config.replace(budget=TWO), resume=True))
    assert list(finetune("scratch:tiny", examples, tmp_path, config.replace(budget=TWO), resume=True))[-1].step == 2
