"""The worker of live mode saves what was learned, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from napari_affmae.control import LiveControl
from napari_affmae.data.classes import default_classes
from napari_affmae.errors import DataError
from napari_affmae.events import LiveRound, LiveStep
from napari_affmae.widgets.live_worker import LiveSaved, LiveWorker, Training, Wanted

IMAGE = SimpleNamespace(name="one")
CLASSES = default_classes((1, 2))


class Session:
    """A live session that has learned something after the two steps of a round. Without an image it fails."""

    def __init__(self):
        self.unsaved = self.undone = False
        self.rounds = 0
        self.classes = CLASSES

    def answer(self, wanted, control):
        if wanted.image is None:
            raise DataError("the image is gone")
        if wanted.classes != self.classes:
            self.classes, self.unsaved = wanted.classes, False
        for step in (1, 2):
            yield LiveStep("live", wanted.generation, step, 0.5, fine=False)
            if control.stale(wanted.generation):
                return
        self.rounds += 1
        self.unsaved = True
        yield LiveRound("live", wanted.generation, self.rounds, 2, False, 0.1, 0.7, 0.1)

    def save(self, path):
        self.unsaved = False
        return path.with_name(f"after round {self.rounds}")


@pytest.fixture
def work(tmp_path):
    """Have a worker answer one request after the other, told to stop after a step; gives the names of what it saves."""
    live = Session()

    def open_live(model, classes, images, device):
        assert len(classes) > 1, "a segmenter cannot have fewer"
        return live

    engine = SimpleNamespace(open_live=open_live)
    worker = LiveWorker(SimpleNamespace(engine=engine, settings=SimpleNamespace(device="cpu")))
    training = Training("scratch", tmp_path)

    def run(*images, stop_at=None, classes=CLASSES):
        control = LiveControl()
        tables = (CLASSES,) * (len(images) - 1) + (classes,)
        asked = zip(images, tables, strict=True)
        waiting = [Wanted(training, 1, [], image, (0, 0, 9, 9), table, [], 0.0) for image, table in asked]
        worker._pending = waiting.pop(0)
        for event in worker._work(control):
            if isinstance(event, LiveStep) and event.step == stop_at:
                control.stop()
            if isinstance(event, LiveRound) and waiting:
                worker._pending = waiting.pop(0)
            if isinstance(event, LiveSaved):
                yield event.path.name

    return run


def test_what_was_learned_is_saved_once_in_the_end(work):
    assert list(work(IMAGE, IMAGE)) == ["after round 2"]


def test_what_a_round_that_was_cut_off_has_not_learned_is_not_saved(work):
    assert list(work(IMAGE, stop_at=1)) == []
    assert list(work(IMAGE)) == ["after round 1"]
    assert list(work(IMAGE, stop_at=1)) == []


def test_what_was_learned_is_saved_before_other_classes_make_it_forgotten(work):
    assert list(work(IMAGE, IMAGE, classes=default_classes((1, 3)))) == ["after round 1", "after round 2"]


def test_with_a_single_class_no_session_is_opened(work):
    assert list(work(IMAGE, classes=CLASSES[:1])) == []
    assert list(work(IMAGE)) == ["after round 1"]


def test_an_error_leaves_what_the_round_before_it_taught(work):
    events = work(IMAGE, None)
    assert next(events) == "after round 1"
    with pytest.raises(DataError, match="gone"):
        next(events)
