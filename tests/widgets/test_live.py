"""Live mode with the real engine, real mouse events and real keys."""

from __future__ import annotations

import re
import shutil
import threading
from itertools import pairwise

import numpy as np
import pytest
from napari._vispy import canvas
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from skimage.io import imsave

from napari_affmae.data.synthetic import synthetic_em
from napari_affmae.engine.live import LiveSession
from napari_affmae.widgets.kinds import KIND, Kind
from napari_affmae.widgets.live import REDRAWN_MILLISECONDS, TURN_MILLISECONDS
from napari_affmae.widgets.state import Phase

SIDE = 128
ROUND = 120_000


@pytest.fixture
def dock(make_dock, make_napari_viewer, click, qtbot, tmp_path):
    """A dock in a shown viewer with the real engine, the brush of the first class in hand, live mode on."""
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer, fake=False)
    dock.session.settings = dock.session.settings.replace(project=str(tmp_path / "project"), device="cpu")
    viewer.add_image(synthetic_em(SIDE, 0)[0], name="em")
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.reset_view()
    dock.label.from_scratch.setChecked(True)
    click(dock.label.paint)
    click(dock.label.live)
    yield dock
    dock.shut_down()


@pytest.fixture
def layer(dock):
    return dock.session.layers.paint_layer("em")


def canvas_of(dock):
    return dock._viewer.window._qt_viewer.canvas.native


def canvas_model(dock):
    return dock._viewer.window._qt_viewer.canvas


def press(dock, offset):
    place = canvas_of(dock).rect().center() + QPoint(*offset)
    QTest.mouseMove(canvas_of(dock), place)
    QTest.mousePress(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)
    return place


def drag(canvas, place):
    """Move with the left button held, which QTest's moves do not say."""
    held = Qt.MouseButton.LeftButton
    at = QPointF(place), QPointF(canvas.mapToGlobal(place))
    event = QMouseEvent(QEvent.Type.MouseMove, *at, Qt.MouseButton.NoButton, held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(canvas, event)


def stroke(dock, offset, moves=20, pace=lambda: None):
    place = press(dock, offset)
    pace()  # Qt may say once more where the button went down; vispy would leave out a move that follows at once
    for move in range(moves):
        # Within the canvas, and never twice at the same place in a row.
        place = place + QPoint(0, 3 if move // 20 % 2 == 0 else -3)
        pace()
        drag(canvas_of(dock), place)
    QTest.mouseRelease(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)


def holds_both(paint):
    """Whether paint of both classes is in what the worker was asked to learn."""
    return {1, 2} <= {int(label) for _, labels in paint for label in np.unique(labels)}


def paint_two_classes(dock, layer):
    layer.selected_label = 1
    stroke(dock, (-80, 0))
    layer.selected_label = 2
    stroke(dock, (80, 0))
    assert set(np.unique(layer.data)) == {0, 1, 2}


def rounds(dock):
    return dock.label.live_mode.rounds


def segmentation(dock):
    found = [layer for layer in dock._viewer.layers if layer.metadata.get(KIND) == Kind.SEGMENTATION]
    return found[0] if found else None


def settled(dock):
    return not dock.label.live_mode.runner.running and not dock.label.live_mode._soon.isActive()


def test_a_stroke_trains_and_shows_and_undo_does_again(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    shown = segmentation(dock)
    assert set(np.unique(shown.data)) <= {1, 2}
    assert re.fullmatch(r"Updated in \d+\.\d s", dock.label.live_status.text())
    assert re.fullmatch(r"Round 1 · loss \d\.\d\d", dock.label.live_status.toolTip()), "figures are for those who look"
    assert dock.session.state.segmenter is not None
    assert dock.session.state.segmenter.path.is_file()
    assert dock.label.segment.isEnabled()
    stroke(dock, (0, 0))
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 2 and settled(dock), timeout=ROUND)
    before = len(rounds(dock))
    canvas_of(dock).setFocus()
    QTest.keyClick(canvas_of(dock), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: len(rounds(dock)) > before, timeout=ROUND)
    assert rounds(dock)[-1].steps > 0
    assert shown.data.any()
    QTest.keyClick(canvas_of(dock), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not shown.data.any() and settled(dock), timeout=ROUND)
    dock.label.live_mode._refine()
    qtbot.waitUntil(lambda: settled(dock), timeout=ROUND)
    assert dock.label.live_mode.on, "one class is too little to learn from, which is no error"
    assert dock.label.live_status.text() == "Live: now paint a second class."


def test_live_says_that_it_is_on_and_which_paint_it_waits_for(dock, layer, click, qtbot):
    status = dock.label.live_status
    assert dock.status.text() == "Live is on: the network learns after every stroke."
    assert "all paint of the project" in dock.label.live.toolTip()
    assert status.text() == "Live: paint two classes to begin."
    layer.selected_label = 1
    stroke(dock, (-80, 0))
    qtbot.waitUntil(lambda: status.text() == "Live: now paint a second class.", timeout=ROUND)
    click(dock.label.live)
    assert dock.status.text() == "Live is off."
    click(dock.label.live)
    assert status.text() == "Live: now paint a second class.", "at once"


def test_overlays_go_with_their_image_and_live_waits_for_another(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    painted, viewer, status = layer.data.copy(), dock._viewer, dock.label.live_status
    viewer.layers.remove("em")
    qtbot.waitUntil(lambda: not viewer.layers, timeout=5000)
    qtbot.waitUntil(lambda: status.text() == "Live waits for an image: open one.", timeout=5000)
    viewer.add_image(synthetic_em(SIDE, 0)[0], name="em")
    qtbot.waitUntil(lambda: "waits" not in status.text(), timeout=ROUND)
    dock.label.paint.click()
    np.testing.assert_array_equal(dock.session.layers.paint_layer("em").data, painted)
    qtbot.waitUntil(lambda: segmentation(dock) is not None and settled(dock), timeout=ROUND)
    assert dock.label.live_mode.on


def test_a_network_whose_strokes_are_all_undone_is_in_use_no_more(dock, layer, click, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    state, shown = dock.session.state, segmentation(dock)
    learned = state.segmenter
    layer.undo()
    qtbot.waitUntil(lambda: not shown.data.any() and settled(dock), timeout=ROUND)
    assert state.segmenter is None, "it began from scratch"
    assert not dock.label.segment.isEnabled()
    assert dock.session.keeper.file.settings.segmenter == "", "what opens the project begins without it, too"
    click(dock.label.live)
    click(dock.label.live)
    qtbot.waitUntil(lambda: dock.label.live_mode._training.live is not None and settled(dock), timeout=ROUND)
    assert not shown.data.any()
    layer.redo()
    qtbot.waitUntil(lambda: shown.data.any() and settled(dock), timeout=ROUND)
    assert state.segmenter.path != learned.path


def test_the_last_but_one_class_can_be_removed_and_brought_back(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    edits, shown = dock.session.class_edits, segmentation(dock)
    edits.remove(dock.session.state.classes[1])
    qtbot.waitUntil(lambda: not shown.data.any() and settled(dock), timeout=ROUND)
    assert dock.label.live_mode.on
    assert dock.label.live_status.text() == "Live: now paint a second class."
    edits.undo_edit()
    qtbot.waitUntil(lambda: shown.data.any() and settled(dock), timeout=ROUND)


def test_no_layer_changes_while_the_mouse_is_down(dock, layer, qtbot):
    live = dock.label.live_mode
    paint_two_classes(dock, layer)
    # What comes before the paint of two classes is answered at once, by nothing.
    qtbot.waitUntil(lambda: live.runner.running and holds_both(live._latest.paint), timeout=5000)
    layer.mode = "pan_zoom"
    place = press(dock, (0, 0))
    qtbot.waitUntil(lambda: any(type(event).__name__ == "LiveRound" for event in live._held), timeout=ROUND)
    assert segmentation(dock) is None
    assert not rounds(dock)
    QTest.mouseRelease(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: segmentation(dock) is not None and len(rounds(dock)) == 1, timeout=5000)


def test_a_stroke_of_200_moves_loses_none_while_live_trains(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: dock.label.live_mode.runner.running, timeout=5000)
    seen = []

    def count(layer, event):
        pressed = event.position
        yield
        while event.type == "mouse_move":
            # The stroke has not moved yet where the button went down.
            if seen or event.position != pressed:
                seen.append(event.position)
            yield

    layer.mouse_drag_callbacks.append(count)
    # vispy leaves out moves that come faster than a hundred a second, with or without live mode.
    stroke(dock, (0, 0), moves=200, pace=lambda: qtbot.wait(12))
    assert len(seen) == 200
    qtbot.waitUntil(lambda: bool(rounds(dock)), timeout=ROUND)


def test_only_the_newest_stroke_is_answered(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    live = dock.label.live_mode
    qtbot.waitUntil(lambda: live.runner.running, timeout=5000)
    for offset in (-40, -20, 20):
        first = live._generation
        stroke(dock, (offset, 0))
        qtbot.waitUntil(lambda first=first: live._generation > first, timeout=5000)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1, timeout=ROUND)
    assert rounds(dock)[0].generation == live._generation


def test_switched_off_it_is_quiet(dock, layer, click, qtbot):
    paint_two_classes(dock, layer)
    live = dock.label.live_mode
    qtbot.waitUntil(lambda: live.runner.running, timeout=5000)
    click(dock.label.live)
    qtbot.waitUntil(lambda: not live.runner.running, timeout=ROUND)
    generation = live._generation
    stroke(dock, (0, 0))
    qtbot.wait(300)
    assert live._generation == generation
    assert not live.runner.running


def test_a_line_says_when_live_waits_and_when_it_goes_on(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    state, status = dock.session.state, dock.label.live_status
    state.job, state.phase = "suggest", Phase.RUNNING
    assert status.text() == "Live waits while looking for places to paint is under way."
    state.phase, state.job = Phase.IDLE, None
    assert status.text() == "Live goes on …"
    qtbot.waitUntil(lambda: "Updated" in status.text() or "Up to date" in status.text(), timeout=ROUND)


def test_the_model_that_is_saved_after_switching_off_is_the_one_that_is_used(dock, layer, click, qtbot, monkeypatch):
    live = dock.label.live_mode
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    before = dock.session.state.segmenter
    save, saving, off = LiveSession.save, threading.Event(), threading.Event()

    def save_when_off(session, path):
        saving.set()
        off.wait(60)
        return save(session, path)

    monkeypatch.setattr(LiveSession, "save", save_when_off)
    stroke(dock, (0, 0))
    qtbot.waitUntil(saving.is_set, timeout=ROUND)
    click(dock.label.live)
    off.set()
    qtbot.waitUntil(lambda: not live.runner.running, timeout=ROUND)
    on_disk = dock.session.engine.read_model(before.path)
    assert on_disk.card != before.card
    assert dock.session.state.segmenter.card == on_disk.card


def test_the_window_has_a_turn_between_two_new_layers(dock, layer, qtbot):
    dock.label.next.uncertainty.setChecked(True)
    happened = []
    dock._viewer.layers.events.inserted.connect(lambda event: happened.append(event.value.metadata[KIND]))
    turn = QTimer()
    turn.timeout.connect(lambda: happened.append("turn"))
    turn.start(1)
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: Kind.UNCERTAINTY in happened, timeout=ROUND)
    turn.stop()
    first, second = happened.index(Kind.SEGMENTATION), happened.index(Kind.UNCERTAINTY)
    assert "turn" in happened[first:second]


def test_what_napari_draws_while_a_hand_paints_is_made_in_turns_of_its_own(dock, layer, qtbot, monkeypatch):
    """It takes a third of the time of a layer of labels, and nobody paints on a segmentation as soon as it is there."""
    aids = [type(layer._overlays[name]) for name in ("polygon", "brush_stroke")]
    happened = []
    made_by_napari = canvas.create_vispy_overlay

    def make(overlay, **kwargs):
        happened.append(type(overlay))
        return made_by_napari(overlay=overlay, **kwargs)

    monkeypatch.setattr(canvas, "create_vispy_overlay", make)
    dock._viewer.layers.events.inserted.connect(lambda event: happened.append(event.value.metadata[KIND]))
    turn = QTimer()
    turn.timeout.connect(lambda: happened.append("turn"))
    turn.start(1)
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: Kind.SEGMENTATION in happened and aids[-1] in happened, timeout=ROUND)
    turn.stop()
    places = [happened.index(one) for one in (Kind.SEGMENTATION, *aids)]
    for first, second in pairwise(places):
        assert "turn" in happened[first:second]


def test_no_layer_is_made_of_what_nobody_asked_to_see(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock) and dock.session.layers.has_uncertainty(), timeout=ROUND)
    assert all(one.metadata.get(KIND) != Kind.UNCERTAINTY for one in dock._viewer.layers)
    assert dock.label.next.suggest.isEnabled()


def test_a_polygon_can_be_drawn_on_a_segmentation(dock, layer, click, qtbot):
    """It has all that other layers of labels have, on the canvas as well."""
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock) and dock.session.layers.has_uncertainty(), timeout=ROUND)
    click(dock.label.live)
    shown = segmentation(dock)
    dock._viewer.layers.selection.active = shown
    shown.selected_label = 7
    shown.mode = "polygon"
    for offset in ((-60, -60), (60, -60), (60, 60)):
        press(dock, offset)
        place = canvas_of(dock).rect().center() + QPoint(*offset)
        QTest.mouseRelease(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseDClick(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)
    assert (shown.data == 7).any()


def test_a_segmentation_that_is_removed_at_once_is_left_alone(dock, layer, qtbot):
    removed = []

    def remove(added):
        if added.metadata[KIND] == Kind.SEGMENTATION and not removed:
            removed.append(added)
            QTimer.singleShot(0, lambda: dock._viewer.layers.remove(added))

    dock.session.layers.overlay_added.connect(remove)
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: dock.session.layers.has_uncertainty() and not dock.label.live_mode._turns, timeout=ROUND)
    assert removed[0] not in canvas_model(dock)._layer_overlay_to_visual


def test_a_new_layer_is_drawn_in_another_turn_than_it_is_made(dock, layer, click, qtbot):
    dock.label.next.uncertainty.setChecked(True)
    layer.mode = "pan_zoom"
    seen = []

    def note(event):
        if event.value.metadata[KIND] in (Kind.SEGMENTATION, Kind.UNCERTAINTY):
            seen.append(event.value.visible)

    dock._viewer.layers.events.inserted.connect(note)
    first, second = np.argwhere(layer.data == 0)[:2]
    layer.data_setitem(tuple(first[:, None]), 1)
    layer.data_setitem(tuple(second[:, None]), 2)
    qtbot.waitUntil(lambda: bool(seen), timeout=ROUND)
    assert seen == [False]
    click(dock.label.live)
    assert segmentation(dock).visible, "switched off in between, what was begun is finished"
    assert dock.session.layers.has_uncertainty()
    assert seen == [False, False]
    assert all(one.visible for one in dock.session.layers.overlays())


def test_the_second_layer_waits_for_the_mouse_too(dock, layer, qtbot):
    dock.label.next.uncertainty.setChecked(True)
    layer.mode = "pan_zoom"
    pressed = []

    def press_at_once(event):
        if event.value.metadata[KIND] == Kind.SEGMENTATION:
            # Moving the mouse there first would let Qt take turns before the button is down.
            pressed.append(canvas_of(dock).rect().center())
            QTest.mousePress(canvas_of(dock), Qt.MouseButton.LeftButton, pos=pressed[-1])

    dock._viewer.layers.events.inserted.connect(press_at_once)
    first, second = np.argwhere(layer.data == 0)[:2]
    layer.data_setitem(tuple(first[:, None]), 1)
    layer.data_setitem(tuple(second[:, None]), 2)
    qtbot.waitUntil(lambda: bool(pressed), timeout=ROUND)
    [place] = pressed
    qtbot.wait(5 * TURN_MILLISECONDS)
    assert not dock.session.layers.has_uncertainty()
    QTest.mouseRelease(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(dock.session.layers.has_uncertainty, timeout=5000)


def test_what_happens_just_before_the_mouse_goes_down_is_answered_after_it(dock, layer, qtbot):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    canvas_of(dock).setFocus()
    QTest.keyClick(canvas_of(dock), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    layer.mode = "pan_zoom"
    place = press(dock, (0, 0))
    qtbot.wait(3 * REDRAWN_MILLISECONDS)
    QTest.mouseRelease(canvas_of(dock), Qt.MouseButton.LeftButton, pos=place)
    [left] = np.unique(layer.data[layer.data > 0])
    qtbot.waitUntil(lambda: dock.label.live_mode._latest.paint[0][1].max() == left, timeout=5000)


def test_a_network_that_is_loaded_or_trained_meanwhile_is_what_live_goes_on_from(dock, layer, wait_idle, qtbot, tmp_path):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    first = dock.session.state.segmenter.path
    loaded = tmp_path / "loaded.safetensors"
    shutil.copyfile(first, loaded)
    dock.load_model(loaded)
    wait_idle(dock)
    before = len(rounds(dock))
    stroke(dock, (0, 0))
    qtbot.waitUntil(lambda: len(rounds(dock)) > before and settled(dock), timeout=ROUND)
    made = dock.session.state.segmenter
    assert made.path.parent != first.parent
    # What it started from is in its history: one session before its own.
    assert [entry["job"] for entry in made.card.history] == ["live", "live"]


def test_another_project_leaves_the_model_of_the_one_before_alone(dock, layer, qtbot, tmp_path):
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    model = dock.session.state.segmenter.path
    before = model.read_bytes()
    dock.pretrain.project.set_text(str(tmp_path / "second"))
    dock.pretrain.project.chosen.emit("")
    done = len(rounds(dock))
    stroke(dock, (0, 0))
    qtbot.waitUntil(lambda: len(rounds(dock)) > done and settled(dock), timeout=ROUND)
    assert model.read_bytes() == before
    assert dock.session.state.segmenter.path.is_relative_to(tmp_path / "second")


def test_off_and_on_again_in_the_middle_of_a_round(dock, layer, click, qtbot):
    live = dock.label.live_mode
    paint_two_classes(dock, layer)
    qtbot.waitUntil(lambda: "Step" in dock.label.live_status.toolTip(), timeout=ROUND)
    assert live.runner.running
    click(dock.label.live)
    click(dock.label.live)
    qtbot.waitUntil(lambda: bool(rounds(dock)) and settled(dock), timeout=ROUND)
    assert live.on
    assert segmentation(dock) is not None


def test_paint_on_a_closed_image_is_learned_from(make_dock, make_napari_viewer, click, wait_idle, qtbot, tmp_path):
    """A folder of two images: the first is painted and closed, the second is shown and gets not a single stroke."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        imsave(folder / f"em_{number}.png", synthetic_em(SIDE, number)[0], check_contrast=False)
    viewer = make_napari_viewer(show=True)
    dock = make_dock(viewer, fake=False)
    session = dock.session
    session.settings = session.settings.replace(project=str(tmp_path / "project"), device="cpu")
    dock.images.folder.set_text(str(folder))
    dock.images._render()
    click(dock.images.scan)
    wait_idle(dock)
    session.opener.open(session.state.images.records[0])
    qtbot.waitUntil(lambda: session.state.image is not None and session.restorer.is_done("em_0.png"), timeout=5000)
    click(dock.label.paint)
    layer = session.layers.paint_layer("em_0.png")
    for class_id, row in ((1, 30), (2, 90)):
        for column in range(20, 100, 4):
            layer.paint((row, column), class_id)
    session.opener.open(session.state.images.records[1])
    qtbot.waitUntil(lambda: session.state.image.name == "em_1.png" and session.restorer.is_done("em_1.png"), timeout=5000)
    session.save_paint()
    for name in ("em_0.png · paint", "em_0.png"):
        viewer.layers.remove(name)
    session.save_paint()
    said = []
    dock.label.live_mode.said.connect(said.append)
    dock.label.from_scratch.setChecked(True)
    click(dock.label.live)
    qtbot.waitUntil(lambda: len(rounds(dock)) >= 1 and settled(dock), timeout=ROUND)
    assert any("closed images: 1 of 1" in text for text in said)
    assert set(np.unique(segmentation(dock).data)) <= {1, 2}
    assert not list(session.layers.painted_planes())
    asked = len(rounds(dock))
    dock.label.live_mode._look()
    qtbot.wait(300)
    assert len(rounds(dock)) == asked, "nothing is new"
    dock.label.live_mode._refine()
    qtbot.waitUntil(lambda: settled(dock), timeout=ROUND)
    assert dock.label.live_mode.on, "there is nothing to refine on, which is no error"
    dock.shut_down()
