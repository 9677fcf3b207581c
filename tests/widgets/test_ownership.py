"""Whose paint is whose: images that share names, projects that change, docks that are opened again, copies of layers."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from napari.layers._layer_actions import _convert_to_labels, _duplicate_layer, _split_rgb
from napari.utils.notifications import notification_manager
from skimage.io import imsave

from napari_affmae.card import ClassInfo, ModelCard
from napari_affmae.data.label_array import LabelArray
from napari_affmae.data.project_folder import read_project
from napari_affmae.events import LivePrediction
from napari_affmae.widgets.layer_identity import signature
from napari_affmae.widgets.live_worker import LiveSaved, Training
from napari_affmae.widgets.plane import Plane
from napari_affmae.widgets.project import new_run
from napari_affmae.widgets.state import ModelOnDisk

TWO = (ClassInfo(id=1, name="background", color="#ff0000"), ClassInfo(id=2, name="structure", color="#00ff00"))
THREE = (*TWO, ClassInfo(id=3, name="vesicle", color="#0000ff"))


def pixels(seed, shape=(64, 96)):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def show(dock, array, name="Image"):
    image = dock._viewer.add_image(array, name=name)
    dock._viewer.layers.selection.active = image
    return image


def close(dock):
    dock.session.save_paint()
    dock.shut_down()


def choose(dock, folder):
    """Choose a project folder by hand."""
    dock.pretrain.project.set_text(str(folder))
    dock.pretrain._remember()
    assert dock.session.project == folder


def group_of(image):
    return Plane(image, ()).group


def on_disk(dock, name):
    file = read_project(dock.session.project)
    return LabelArray(dock.session.project / file.labels_of(name), "paint").read()


def network(engine, project, kind, classes=()):
    """Make a network that was trained in a project."""
    run = new_run(project, kind)
    path = run / "model.safetensors"
    path.touch()
    engine.models[path] = ModelOnDisk(path, 1, len(classes), ModelCard(classes=classes))
    return engine.models[path]


@pytest.fixture
def canvas_paint(click):
    """Return a function that presses *Paint* for an image and returns the layer."""

    def press(dock, image):
        dock._viewer.layers.selection.active = image
        click(dock.label.paint)
        return dock.session.layers.paint_layer(group_of(image))

    return press


@pytest.fixture
def paint(canvas_paint):
    """Return a function that paints on an image and waits until that is saved."""

    def paint(dock, image, at=(10, 10), class_id=1):
        layer = canvas_paint(dock, image)
        layer.brush_size = 5
        layer.paint(at, class_id)
        dock.session.save_paint()
        return layer

    return paint


@pytest.fixture
def again(make_dock, make_napari_viewer):
    """Return a function that starts anew with a viewer of its own."""
    return lambda: make_dock(make_napari_viewer())


@pytest.fixture
def folder(tmp_path):
    """Return a function that makes a folder of two images."""

    def make(name, seed=0):
        path = tmp_path / name
        path.mkdir()
        for number in range(2):
            imsave(path / f"im_{number}.png", pixels(seed + number), check_contrast=False)
        return path

    return make


@pytest.fixture
def read(click, wait_idle):
    """Return a function that reads a folder of images."""

    def read(dock, path):
        dock.images.folder.set_text(str(path))
        dock.images._render()
        click(dock.images.scan)
        wait_idle(dock)

    return read


@pytest.fixture
def opened(qtbot):
    """Return a function that opens an image of the folder and waits for what is kept of it."""

    def opened(dock, number):
        record = dock.session.state.images.records[number]
        dock.session.opener.open(record)
        qtbot.waitUntil(lambda: dock.session.restorer.is_done(record.name), timeout=5000)
        return next(image for image in dock.session.layers.images() if group_of(image) == record.name)

    return opened


# Images that share a name


def test_own_paint_comes_back_whatever_was_opened_first(make_dock, again, paint, canvas_paint):
    dock = make_dock()
    first, second = show(dock, pixels(0)), show(dock, pixels(1))
    paint(dock, first)
    paint(dock, second, (40, 60), 2)
    close(dock)
    dock = again()
    second, first = show(dock, pixels(1)), show(dock, pixels(0))
    assert set(np.unique(canvas_paint(dock, second).data)) == {0, 2}
    assert set(np.unique(canvas_paint(dock, first).data)) == {0, 1}
    close(dock)
    dock = again()
    assert canvas_paint(dock, show(dock, pixels(1))).data.any(), "the second one alone"


@pytest.mark.parametrize("other_shape", [(64, 96), (80, 80)])
def test_a_project_that_knows_another_image_of_that_name_keeps_its_paint(
    make_dock, again, paint, canvas_paint, tmp_path, other_shape
):
    dock = make_dock()
    choose(dock, tmp_path / "two")
    paint(dock, show(dock, pixels(9, other_shape)), (40, 60), 2)
    close(dock)
    dock = again()
    choose(dock, tmp_path / "one")
    image = show(dock, pixels(0))
    paint(dock, image)
    choose(dock, tmp_path / "two")
    assert set(np.unique(canvas_paint(dock, image).data)) == {0, 1}, "what was painted goes along, under another name"
    paint(dock, image, (30, 30))
    close(dock)
    assert on_disk(dock, "Image").shape == other_shape
    assert set(np.unique(on_disk(dock, "Image"))) == {0, 2}
    assert set(np.unique(on_disk(dock, "Image (1)"))) == {0, 1}


def test_paint_that_goes_into_a_project_says_which_image_it_is_of(make_dock, again, paint, canvas_paint, tmp_path):
    dock = make_dock()
    paint(dock, show(dock, pixels(0)))
    choose(dock, tmp_path / "project")
    close(dock)
    dock = again()
    assert not canvas_paint(dock, show(dock, pixels(9))).data.any()


def test_a_layer_that_is_renamed_to_a_known_name_does_not_get_its_paint(make_dock, paint, canvas_paint):
    dock = make_dock()
    first = show(dock, pixels(0), "cells")
    paint(dock, first)
    second = show(dock, pixels(1), "tmp")
    second.name = "cells"
    assert not canvas_paint(dock, second).data.any(), "while the other one is open"
    dock._viewer.layers.clear()
    third = show(dock, pixels(2), "tmp")
    third.name = "cells"
    assert not canvas_paint(dock, third).data.any()


def test_an_image_that_is_called_as_one_of_the_folder_has_its_own_paint(make_dock, paint, canvas_paint, folder, read, opened):
    dock = make_dock()
    read(dock, folder("plate"))
    paint(dock, opened(dock, 0))
    dock._viewer.layers.clear()
    image = show(dock, pixels(9), "im_0.png")
    assert not canvas_paint(dock, image).data.any()
    assert group_of(image) != "im_0.png"


@pytest.mark.parametrize("painted_before", [False, True])
def test_opened_images_that_are_used_as_layers_do_not_share_paint(
    again, folder, read, opened, paint, canvas_paint, click, wait_idle, painted_before
):
    first, second = again(), again()
    read(first, folder("a"))
    opened(first, 1)
    mine = opened(first, 0)
    click(first.images.use_layers)
    wait_idle(first)
    assert first.session.layers.images() == [mine], "what is hidden goes with its folder"
    theirs = paint(first, mine).data.copy()
    close(first)
    read(second, folder("b", seed=5))
    image = opened(second, 0)
    own = paint(second, image, at=(40, 40)).data.copy() if painted_before else np.zeros_like(theirs)
    click(second.images.use_layers)
    wait_idle(second)
    assert second.session.project == first.session.project
    assert [record.name for record in second.session.state.images.records] == [group_of(image)] == ["im_0.png (1)"]
    assert second.session.closed_paint() == []
    np.testing.assert_array_equal(canvas_paint(second, image).data, own)
    paint(second, image, at=(20, 20))
    np.testing.assert_array_equal(on_disk(second, "im_0.png"), theirs)


def test_an_image_leaves_its_name_to_one_of_the_folder_that_is_opened(make_dock, paint, canvas_paint, folder, read, opened):
    dock = make_dock()
    mine = show(dock, pixels(9), "im_0.png")
    read(dock, folder("plate"))
    image = opened(dock, 0)
    assert group_of(mine) != group_of(image)
    paint(dock, mine)
    assert not canvas_paint(dock, image).data.any()


def test_pixels_of_another_size_in_the_same_layer_are_another_image(make_dock, paint, canvas_paint):
    dock = make_dock()
    image = show(dock, pixels(0))
    paint(dock, image)
    image.data = pixels(1, (40, 50))
    layer = canvas_paint(dock, image)
    assert layer.data.shape == (40, 50)
    assert on_disk(dock, "Image").shape == (64, 96)


@pytest.mark.parametrize(("shape", "blank"), [((3, 400, 500), 0), ((600, 700, 3), (..., 0))])
def test_planes_and_colours_count_in_a_signature(make_napari_viewer, shape, blank):
    viewer = make_napari_viewer()
    one, other = pixels(0, shape), pixels(1, shape)
    one[blank] = other[blank] = 0
    assert signature(viewer.add_image(one)) != signature(viewer.add_image(other))
    assert signature(viewer.add_image(one.copy())) == signature(viewer.layers[0])


def test_names_with_brackets_are_names(make_dock, paint):
    dock = make_dock()
    odd, plane = show(dock, pixels(0), "cells[raw]"), show(dock, pixels(2), "cells[1]")
    show(dock, pixels(1, (4, 64, 96)), "cells")
    assert paint(dock, odd).data.any()
    assert paint(dock, plane).data.any()
    known = read_project(dock.session.project).layers
    assert known["cells[1]"] == signature(plane), "not that of the stack"


# Layers that are not where they were


def test_paint_whose_image_left_goes_with_its_folder(make_dock, paint, folder, read, opened):
    dock = make_dock()
    one, other = folder("A"), folder("B", 5)
    read(dock, other)
    paint(dock, opened(dock, 0), (50, 50), 2)
    read(dock, one)
    image = opened(dock, 0)
    paint(dock, image)
    dock._viewer.layers.remove(image)
    read(dock, other)
    opened(dock, 0)
    close(dock)
    assert set(np.unique(on_disk(dock, "im_0.png"))) == {0, 2}


def test_paint_whose_image_left_is_trained_on_where_the_folder_holds_the_image(make_dock, paint, folder, read, opened):
    dock = make_dock()
    read(dock, folder("A"))
    image = opened(dock, 0)
    layer = paint(dock, image)
    painted = {1: np.count_nonzero(layer.data)}
    dock.session.save_paint()
    dock._viewer.layers.remove(image)
    dock.session.count_paint()
    assert dock.session.state.painted == painted
    material, classes = dock.session.training_material()
    assert [record.name for record, _ in material] == ["im_0.png"]
    assert [info.id for info in classes] == [1]


def test_paint_whose_image_is_gone_for_good_is_not_counted(make_dock, paint):
    dock = make_dock()
    image = show(dock, pixels(0))
    paint(dock, image)
    assert dock.session.state.painted
    dock._viewer.layers.remove(image)
    assert dock.session.state.painted == {}, "nothing can be learned from it"
    show(dock, pixels(0))
    assert dock.session.state.painted, "it is back with the image"


@pytest.mark.parametrize("is_saved", [True, False])
def test_overlays_go_with_their_image_once_they_are_saved(make_dock, paint, monkeypatch, qtbot, is_saved):
    dock = make_dock()
    layers, image = dock._viewer.layers, show(dock, pixels(0))
    layer = paint(dock, image)
    other = paint(dock, show(dock, pixels(1), name="other"))
    if not is_saved:
        monkeypatch.setattr(dock.session.keeper, "flush", lambda: False)
    layers.remove(image)
    assert layer in layers, "napari may be about to put another image in its place"
    qtbot.wait(50)
    assert (layer in layers) is not is_saved
    assert (dock.status.text() == "Image was removed; its paint and segmentation are kept in the project.") is is_saved
    assert other in layers
    monkeypatch.undo()


def test_a_copy_of_the_paint_is_the_users_own(make_dock, paint):
    dock = make_dock()
    layer = paint(dock, show(dock, pixels(0)))
    layers = dock._viewer.layers
    layers.selection = {layer}
    _duplicate_layer(layers)
    copy = next(one for one in layers if one.name.endswith("copy"))
    layers.selection.active = layer
    layer.paint((50, 50), 2)
    dock.session.count_paint()
    assert dock.session.state.painted == {1: np.count_nonzero(layer.data == 1), 2: np.count_nonzero(layer.data == 2)}
    layers.remove(copy)
    close(dock)
    assert set(np.unique(on_disk(dock, "Image"))) == {0, 1, 2}


def test_a_copy_of_an_image_is_another_image(make_dock, paint, canvas_paint):
    dock = make_dock()
    image = show(dock, pixels(0))
    paint(dock, image)
    layers = dock._viewer.layers
    layers.selection = {image}
    _duplicate_layer(layers)
    copy = next(one for one in layers if one.name.endswith("copy"))
    assert group_of(copy) != "Image"
    assert not canvas_paint(dock, copy).data.any()


@pytest.mark.filterwarnings("ignore:projection mode")
@pytest.mark.parametrize("make", [_duplicate_layer, _convert_to_labels, _split_rgb])
def test_what_is_made_of_an_opened_image_stays_when_its_folder_is_left(
    make_dock, make_napari_viewer, folder, read, opened, tmp_path, make
):
    colours = tmp_path / "colours"
    colours.mkdir()
    imsave(colours / "im_0.png", pixels(0, (64, 96, 3)), check_contrast=False)
    dock = make_dock(make_napari_viewer())
    read(dock, colours if make is _split_rgb else folder("greys"))
    image, layers = opened(dock, 0), dock._viewer.layers
    before = set(layers)
    layers.selection = {image}
    make(layers)
    mine = set(layers) - before
    assert mine
    read(dock, folder("others", seed=5))
    assert set(layers) == mine


def test_a_copy_of_an_opened_image_is_segmented_as_it_is_shown(
    make_dock, engine, folder, read, opened, click, wait_idle, monkeypatch
):
    dock = make_dock()
    read(dock, folder("images"))
    image, layers, seen = opened(dock, 0), dock._viewer.layers, []
    dock.session.state.segmenter = network(engine, dock.session.project, "finetune", TWO)
    layers.selection = {image}
    _duplicate_layer(layers)
    copy = next(one for one in layers if one.name.endswith("copy"))
    copy.data = np.full_like(copy.data, 7)
    layers.selection.active = copy
    segment = engine.segment
    monkeypatch.setattr(engine, "segment", lambda model, shown, **how: (seen.append(shown), segment(model, shown, **how))[1])
    click(dock.label.segment)
    wait_idle(dock)
    assert [set(np.unique(shown)) for shown in seen] == [{7}]


def test_an_image_whose_file_has_another_size_now_is_opened_once(make_dock, folder, read, opened, paint):
    dock, where = make_dock(), folder("images")
    read(dock, where)
    paint(dock, opened(dock, 0))
    imsave(where / "im_0.png", pixels(9, (128, 80)), check_contrast=False)
    read(dock, where)
    image = opened(dock, 0)
    assert dock.session.layers.images() == [image]
    assert image.data.shape == (128, 80)


def test_what_was_painted_while_no_dock_was_open_stays(make_dock, paint):
    dock = make_dock()
    layer = paint(dock, show(dock, pixels(0)))
    close(dock)
    layer.paint((50, 50), 2)
    dock = make_dock(dock._viewer)
    assert dock.label.paint.isChecked(), "the brush is still in hand"
    close(dock)
    assert layer in dock._viewer.layers
    assert set(np.unique(on_disk(dock, "Image"))) == {0, 1, 2}


def test_an_image_that_was_exchanged_while_no_dock_was_open_does_not_get_the_paint(make_dock, paint, canvas_paint):
    dock = make_dock()
    image = show(dock, pixels(0))
    paint(dock, image)
    close(dock)
    dock._viewer.layers.remove(image)
    other = show(dock, pixels(1))
    dock = make_dock(dock._viewer)
    assert not canvas_paint(dock, other).data.any()
    assert set(np.unique(on_disk(dock, "Image"))) == {0, 1}


def test_an_image_that_was_filtered_keeps_its_paint_when_the_dock_is_opened_again(make_dock, paint):
    dock = make_dock()
    image = show(dock, pixels(0))
    layer = paint(dock, image)
    image.data = image.data // 2
    close(dock)
    dock = make_dock(dock._viewer)
    assert layer in dock._viewer.layers
    assert dock.session.layers.paint_layer(group_of(image)) is layer


def test_going_back_takes_away_what_was_painted_since_on_open_images_too(make_dock, paint, click, qtbot, folder, read, opened):
    dock = make_dock()
    read(dock, folder("plate"))
    paint(dock, opened(dock, 0))
    row = dock.label.snapshots
    click(row.take)
    qtbot.waitUntil(lambda: "Snapshot taken" in dock.status.text(), timeout=5000)
    paint(dock, opened(dock, 1), (50, 50), 2)
    row.fill_menu()
    row.menu.actions()[0].trigger()
    qtbot.waitUntil(lambda: "Back at" in dock.status.text(), timeout=5000)
    close(dock)
    assert list(read_project(dock.session.project).images) == ["im_0.png"]


def test_going_back_shows_no_paint_of_an_image_that_is_not_seen(make_dock, paint, click, qtbot, folder, read, opened):
    dock = make_dock()
    read(dock, folder("images"))
    for number in range(2):
        paint(dock, opened(dock, number))
    click(dock.label.snapshots.take)
    qtbot.waitUntil(lambda: "Snapshot taken" in dock.status.text(), timeout=5000)
    dock.label.snapshots.fill_menu()
    dock.label.snapshots.menu.actions()[0].trigger()
    qtbot.waitUntil(lambda: "Back at" in dock.status.text(), timeout=5000)
    paints = dock.session.layers.paint_layers()
    assert {name: layer.visible for name, layer in paints.items()} == {"im_0.png": False, "im_1.png": True}


def test_what_is_read_late_is_not_shown_over_the_next_image(make_dock, again, paint, qtbot, folder, read, opened):
    images = folder("images")
    dock = make_dock()
    read(dock, images)
    paint(dock, opened(dock, 0))
    close(dock)
    dock = again()
    read(dock, images)
    opened(dock, 1)
    first, second = dock.session.state.images.records
    dock.session.layers.open_image(first, first.read())
    dock.session.opener._opened(first, painting=False)
    dock.session.layers.open_image(second, second.read())
    qtbot.waitUntil(lambda: dock.session.restorer.is_done(first.name), timeout=5000)
    assert not dock.session.layers.paint_layer(first.name).visible
    opened(dock, 0)
    qtbot.waitUntil(lambda: dock.session.layers.paint_layer(first.name).visible, timeout=5000)


def test_what_is_read_of_one_project_is_not_shown_in_the_next(make_dock, paint, qtbot, folder, read, opened, tmp_path):
    dock = make_dock()
    choose(dock, tmp_path / "two")
    images = folder("plate")
    read(dock, images)
    paint(dock, opened(dock, 0), (50, 50), 2)
    choose(dock, tmp_path / "one")
    paint(dock, opened(dock, 0))
    dock.session.layers.close_opened()
    dock.session.opener.open(dock.session.state.images.records[0])
    qtbot.waitUntil(lambda: bool(dock.session.layers.images()), timeout=5000)
    choose(dock, tmp_path / "two")  # what is kept in "one" is still being read
    qtbot.waitUntil(lambda: dock.session.restorer.is_done("im_0.png"), timeout=5000)
    assert set(np.unique(dock.session.layers.paint_layer("im_0.png").data)) == {0, 2}


# Networks of projects


def test_a_network_of_other_classes_is_not_in_use_in_a_project_with_its_own(make_dock, engine, paint, folder, read, opened):
    dock = make_dock()
    one, other = folder("A"), folder("B", 5)
    read(dock, other)
    paint(dock, opened(dock, 0))
    read(dock, one)
    dock.session.state.classes = THREE
    dock.session.state.segmenter = network(engine, dock.session.project, "finetune", THREE)
    gone = dock.session.state.segmenter.path
    read(dock, other)
    assert dock.session.state.classes == read_project(dock.session.project).classes
    assert dock.session.state.segmenter is None
    assert notification_manager.records[-1].message == (
        f"This project gives other names to its classes: {gone} is not in use any more."
    ), "networks of all projects are called alike"


def test_a_network_is_taken_to_the_next_folder_though_a_class_was_renamed(make_dock, engine, paint, folder, read, opened):
    dock = make_dock()
    read(dock, folder("A"))
    paint(dock, opened(dock, 0))
    dock.session.state.segmenter = network(engine, dock.session.project, "finetune", TWO)
    dock.session.state.classes = (TWO[0], TWO[1].replace(name="mitochondria"))
    read(dock, folder("B", 5))
    assert dock.session.state.segmenter is not None


def test_what_was_loaded_first_stays_whatever_the_project_brings(
    make_dock, again, engine, paint, wait_idle, folder, read, opened, tmp_path
):
    dock = make_dock()
    images = folder("plate")
    read(dock, images)
    paint(dock, opened(dock, 0))
    own = network(engine, dock.session.project, "pretrain")
    close(dock)
    loaded = tmp_path / "colleague.safetensors"
    loaded.touch()
    engine.models[loaded] = ModelOnDisk(loaded, 1, 0, ModelCard())
    dock = again()
    dock.load_model(loaded)
    wait_idle(dock)
    read(dock, images)
    assert dock.session.state.pretrained.path == loaded
    close(dock)
    dock = again()
    read(dock, images)
    assert dock.session.state.pretrained.path == loaded, "it was in use"
    loaded.unlink()
    close(dock)
    dock = again()
    read(dock, images)
    assert dock.session.state.pretrained == own


def test_a_share_that_is_away_does_not_keep_the_dock_from_opening(make_dock, again, engine, paint, monkeypatch):
    dock = make_dock()
    paint(dock, show(dock, pixels(0)))
    dock.session.state.segmenter = network(engine, dock.session.project, "finetune", TWO)
    close(dock)
    is_file = Path.is_file

    def stale(path):
        if path.name == "model.safetensors":
            raise OSError(errno.ESTALE, "Stale file handle")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", stale)
    assert again().session.state.segmenter is None


def test_a_model_that_live_saves_late_belongs_to_its_own_project(make_dock, engine, paint, tmp_path):
    dock = make_dock()
    paint(dock, show(dock, pixels(0)))
    live = dock.label.live_mode
    live._training = Training("scratch:tiny", dock.session.project)
    late = LiveSaved(live._training, network(engine, dock.session.project, "finetune", TWO).path)
    choose(dock, tmp_path / "another")
    dock.session.state.segmenter = None
    live._on_batch((late,))
    assert dock.session.state.segmenter is None


def test_an_id_that_the_network_knows_is_not_given_to_a_new_class(make_dock, engine, paint, click):
    dock = make_dock()
    paint(dock, show(dock, pixels(0)))
    dock.session.state.segmenter = network(engine, dock.session.project, "finetune", THREE)
    assert len(dock.session.state.classes) == 2
    click(dock.label.panel.add)
    assert dock.session.state.classes[-1].id == 4, "what it predicts as 3 would be the new class"


# Labels that cannot be read for a moment


def without(path):
    """Move a file or a folder away, and return a function that brings it back."""
    there = path.rename(path.with_name("away"))
    return lambda: there.rename(path)


def halved(chunk):
    """Damage a chunk, and return a function that makes it whole."""
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    return lambda: chunk.write_bytes(whole)


@pytest.fixture
def unread(request, make_dock, again, engine, paint, folder, read, opened):
    """A dock with an image open of which the labels cannot be read, and a function that makes them readable again."""
    images = folder("images")
    dock = make_dock()
    read(dock, images)
    paint(dock, opened(dock, 0))
    opened(dock, 1)  # which is opened by itself again, and the painted one is not
    close(dock)
    dock = again()
    read(dock, images)
    opened(dock, 1)  # or it would come, and be the current image, at some later moment
    dock.session.state.segmenter = network(engine, dock.session.project, "finetune", TWO)
    dock.session.save_paint()
    project = dock.session.project
    back = request.param(project / read_project(project).labels_of("im_0.png") / "labels" / "paint" / "0")
    record = dock.session.state.images.records[0]
    dock.session.layers.open_image(record, record.read())
    return dock, back


def predict(dock):
    """Let live mode predict the current image, as after a round."""
    live = dock.label.live_mode
    live.on, live._plane = True, dock.session.layers.current()
    dock._viewer.mouse_drag_callbacks.append(live._drag)
    for signal, reaction in live._heard():
        signal.connect(reaction)
    live._on_batch((LivePrediction("live", live._generation, "im_0.png", 0, 0, np.ones((8, 8), np.uint8), True),))


@pytest.mark.parametrize(
    ("unread", "ask"),
    [
        (lambda array: without(array / "zarr.json"), lambda dock: dock.label.paint.click()),
        (lambda array: halved(array / "c" / "0" / "0"), lambda dock: dock.label.segment.click()),
        (lambda array: without(array.parents[3]), lambda dock: dock.label.next.tool.start()),
        (lambda array: without(array / "zarr.json"), predict),
    ],
    ids=["paint", "segment", "accept", "live"],
    indirect=["unread"],
)
def test_nothing_is_made_on_labels_that_were_not_read(unread, ask):
    dock, back = unread
    ask(dock)
    assert dock.session.state.idle
    assert not dock.session.layers.kept("im_0.png")
    assert "cannot be read" in dock.status.text()
    assert not dock.label.live_mode.on
    back()
    dock.label.paint.click()
    assert dock.session.layers.paint_layer("im_0.png").data[10, 10] == 1
    close(dock)
    assert on_disk(dock, "im_0.png")[10, 10] == 1


def test_two_windows_on_a_project_keep_the_paint_of_both(make_dock, again, paint, folder, read, opened):
    images = folder("images")
    docks = [make_dock(), again()]
    for dock in docks:
        read(dock, images)
    for number, dock in enumerate(docks):
        paint(dock, opened(dock, number), class_id=number + 1)
    paint(docks[0], opened(docks[0], 0), (40, 60))
    for dock in docks:
        close(dock)
    file = read_project(docks[0].session.project)
    assert {name: list(entry.pixels) for name, entry in file.images.items()} == {"im_0.png": [1], "im_1.png": [2]}
