"""Which buttons are live, and what they say otherwise. No Qt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from skimage.color import rgb2lab

from napari_affmae.card import ModelCard, PixelSize
from napari_affmae.config import FinetuneConfig
from napari_affmae.data.classes import default_classes
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.errors import LabelError
from napari_affmae.widgets.class_balance import few_pixels_warning, starved
from napari_affmae.widgets.class_ids import in_layers, labels_in_layers
from napari_affmae.widgets.project import LastRun
from napari_affmae.widgets.state import (
    DEFAULT_CLASSES,
    CurrentImage,
    LoopState,
    ModelOnDisk,
    Phase,
    add_class,
    choose_channels,
    describe_pixel_size,
    edit_class,
    pixel_size_mismatch,
    renamed_paint,
    why_not_apply,
    why_not_compare,
    why_not_live,
    why_not_look,
    why_not_pause,
    why_not_pretrain,
    why_not_resume,
    why_not_segment,
    why_not_stop,
    why_not_train,
    with_lost,
    with_painted,
)

NANO = PixelSize(y=4, x=4, unit="nanometer")


@pytest.fixture
def images():
    return collection_from_arrays({"a": np.random.default_rng(0).random((8, 8, 3))}, rgb=True)


def last_run(name):
    return LastRun(Path(name), FinetuneConfig(), "", 1.0, is_over=False)


def network(classes=0):
    return ModelOnDisk(Path("run/model.safetensors"), 1, classes, ModelCard())


def test_an_empty_dock_says_what_comes_first():
    state = LoopState()
    assert "step 1" in why_not_pretrain(state)
    assert "Pretrain" in why_not_train(state)
    assert "two classes" in why_not_train(state, from_scratch=True)
    assert "Train" in why_not_segment(state)
    assert "model" in why_not_look(state, "stage 1", needs_stage=True)
    assert why_not_stop(state, "pretrain")


def test_one_job_blocks_the_others_until_it_ends(images):
    state = LoopState(images=images)
    assert why_not_pretrain(state) is None
    state.job, state.phase = "segment", Phase.RUNNING
    assert "segmenting" in why_not_pretrain(state)
    assert why_not_stop(state, "pretrain") is not None
    assert why_not_stop(state, "finetune", "segment") is None
    state.phase = Phase.STOPPING
    assert "being stopped" in why_not_stop(state, "segment")


def test_pause_and_resume_follow_the_phase(images):
    state = LoopState(images=images, job="pretrain", phase=Phase.RUNNING)
    assert why_not_pause(state, "pretrain") is None
    assert why_not_pause(state, "finetune") is not None, "another step's job is paused there"
    state.phase = Phase.PAUSED
    assert why_not_pause(state, "pretrain") is not None
    assert why_not_resume(state, "pretrain") is None
    assert why_not_resume(state, "finetune") is not None
    state.job, state.phase = None, Phase.IDLE
    assert "no run" in why_not_resume(state, "pretrain")
    state.last_runs = {"pretrain": last_run("pretrain-1")}
    assert why_not_resume(state, "pretrain") is None
    assert "no run" in why_not_resume(state, "finetune")


def test_a_training_run_is_taken_up_only_where_its_paint_is():
    state = LoopState(last_runs={"finetune": last_run("finetune-1")})
    assert "Paint" in why_not_resume(state, "finetune")
    state.painted = {1: 50, 2: 50}
    assert why_not_resume(state, "finetune") is None, "what it started from stands in the run"


def test_training_needs_paint_of_two_classes():
    state = LoopState(pretrained=network())
    state.painted = {1: 50}
    assert why_not_train(state) is not None
    state.painted = {1: 50, 7: 50}
    assert why_not_train(state) is not None, "paint of a class that is no more does not count"
    state.painted = {1: 50, 2: 500}
    assert why_not_train(state) is None
    assert few_pixels_warning(state.classes, state.painted).startswith("Few pixels for background:")


def test_classes_without_paint_are_listed_as_in_a_sentence():
    classes = default_classes((1, 2, 3, 4))
    assert few_pixels_warning(classes, {1: 900, 2: 900, 3: 900}) == "No paint for class 4 yet."
    assert few_pixels_warning(classes, {1: 900, 2: 900}) == "No paint for class 3 and class 4 yet."
    assert few_pixels_warning(classes, {1: 900}) == "No paint for class 2, class 3 and class 4 yet."
    assert few_pixels_warning(classes, {1: 900, 2: 900, 3: 9, 4: 9}).startswith("Few pixels for class 3 and class 4: ")


def test_a_class_far_behind_the_others_is_starved():
    assert starved(DEFAULT_CLASSES, {}) == {}
    assert starved(DEFAULT_CLASSES, {1: 10_000, 2: 250}) == {}
    assert "2.0%" in starved(DEFAULT_CLASSES, {1: 25_100, 2: 500})[2]
    assert "No paint" in starved(DEFAULT_CLASSES, {1: 500})[2]


@pytest.mark.parametrize(("seen", "way_out"), [(1, "choose one channel under Channels"), (4, "pretrain anew")])
def test_a_network_of_other_channels_than_the_image_is_refused_before_anything_is_clicked(images, seen, way_out):
    other = ModelOnDisk(Path("other/model.safetensors"), seen, 2, ModelCard())
    state = LoopState(images=images, image=CurrentImage("a", 8, 8, None, channels=3), painted={1: 50, 2: 50})
    state.pretrained = state.segmenter = other
    asked = (why_not_train, why_not_compare, why_not_live, why_not_segment, why_not_apply)
    for reason in [why_not(state) for why_not in asked] + [why_not_look(state, "res2", needs_stage=True)]:
        assert f"trained on {seen} channel" in reason
        assert "these images have 3" in reason
        assert way_out in reason
    assert why_not_train(state, from_scratch=True) is None
    assert why_not_live(state, from_scratch=True) is None, "a new network takes any channels"
    state.pretrained = replace(other, channels=3, num_classes=0)
    assert why_not_train(state) is None
    assert why_not_live(state) is None
    assert state.live_start() is state.model is state.pretrained, "the segmenter does not fit"
    assert why_not_segment(state)
    state.segmenter = replace(other, channels=3)
    assert [why_not(state) for why_not in asked] == [None] * 5


def test_the_decoder_has_no_tokens():
    state = LoopState(segmenter=network(2), image=CurrentImage("a", 8, 8, None))
    assert why_not_look(state, "decoder", needs_stage=True) is not None
    assert why_not_look(state, "decoder", needs_stage=False) is None


def test_classes_are_added_and_renamed():
    classes = add_class(DEFAULT_CLASSES)
    assert [info.id for info in classes] == [1, 2, 3]
    assert add_class((classes[0], classes[2]))[-1].id == 2, "ids of removed classes are used again"
    assert edit_class(classes, 2, " glia ", "#112233")[2].name == "glia"
    assert [info.id for info in with_lost(classes, {9, 4})] == [1, 2, 3, 4, 9]
    with pytest.raises(LabelError, match="already a class"):
        edit_class(classes, 2, "background", "#112233")
    with pytest.raises(LabelError, match="needs a name"):
        edit_class(classes, 2, "  ", "#112233")


def test_paint_that_another_table_calls_otherwise_is_said():
    before = default_classes([1, 2, 3])
    after = (before[0].replace(name="a"), before[1].replace(name="b"))
    assert renamed_paint(before, after, {1: 5, 3: 5}) == " What was painted as “class 1” is “a” now."
    assert renamed_paint(before, after, {}) == ""


@pytest.mark.parametrize("ids", [(0, 1), (1, 2), (3, 0, 255), (0,)])
def test_in_layers_no_class_is_0_and_all_others_are_as_the_network_has_them(ids):
    classes = default_classes(ids)
    shown = in_layers(classes)
    assert [info.replace(id=0) for info in shown] == [info.replace(id=0) for info in classes]
    new = {info.id: other.id for info, other in zip(classes, shown, strict=True)}
    assert 0 not in new.values()
    assert len(set(new.values())) == len(ids)
    assert all(new[one] == one for one in ids if one)
    labels = np.random.default_rng(0).choice(np.array(ids, np.uint8), (20, 30))
    expected = np.vectorize(new.get)(labels)
    for array in (labels, zarr.array(labels, chunks=(8, 8))):
        held = labels_in_layers(array, classes)
        assert held.dtype == np.uint8
        np.testing.assert_array_equal(np.asarray(held), expected)


def test_classes_get_the_colours_that_they_have_on_the_command_line():
    table = with_lost(add_class(DEFAULT_CLASSES), {4})
    assert [info.color for info in table] == [info.color for info in default_classes(range(4))]


def test_as_many_classes_as_anyone_will_paint_are_told_apart():
    colors = [info.color for info in default_classes(range(30))]
    shown = rgb2lab([[list(bytes.fromhex(color[1:])) for color in colors]] / np.float64(255))[0]
    apart = np.linalg.norm(shown[:, None] - shown, axis=-1)[np.triu_indices(30, 1)]
    assert apart.min() > 10, "a difference that is seen at a glance, in CIELAB"


def test_a_new_class_takes_nothing_of_others():
    table = add_class(DEFAULT_CLASSES)
    without = (table[0], table[2])
    assert add_class(without)[-1] == table[1].replace(name="class 2"), "what a removed class had is free again"
    back = add_class(without, [table[1]])[-1]
    assert (back.id, back.name) == (4, "class 4")
    assert back.color not in {info.color for info in table}, "unless it may come back"
    renamed = edit_class(DEFAULT_CLASSES, 1, "class 3", "#112233")
    assert add_class(renamed)[-1].name == "class 4"


def test_classes_that_are_kept_differ_from_those_of_a_network():
    network = default_classes((1, 2))
    before = (DEFAULT_CLASSES[0], network[1].replace(id=3))
    kept = with_painted(network, before, {1: 5, 3: 5})
    assert [info.id for info in kept] == [1, 2, 3]
    assert len({info.color for info in kept}) == len({info.name for info in kept}) == 3


def test_channels_are_chosen_without_another_scan(images):
    chosen = choose_channels(images, [2, 0])
    assert chosen.channels == 2
    np.testing.assert_array_equal(chosen.records[0].read(), images.records[0].read()[..., [2, 0]])
    again = choose_channels(chosen, [1])
    np.testing.assert_array_equal(again.records[0].read()[..., 0], images.records[0].read()[..., 0])


def test_pixel_sizes_are_compared_across_units():
    micro = PixelSize(y=0.004, x=0.004, unit="micrometer")
    assert pixel_size_mismatch(NANO, micro) is None
    assert pixel_size_mismatch(NANO, None) is None
    assert "8 nm" in pixel_size_mismatch(micro.replace(y=0.008, x=0.008), NANO)
    assert describe_pixel_size(micro.replace(y=1.5, x=2)) == "1.5 × 2 µm"
    assert describe_pixel_size(micro) == "4 nm"


def test_assigning_a_field_tells_the_listeners():
    heard = []
    state = LoopState()
    state.events.classes.connect(heard.append)
    state.classes = add_class(state.classes)
    assert heard == [state.classes]
    assert replace(state).classes == state.classes
