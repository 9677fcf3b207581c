"""One generator in one worker: throttled, never losing what matters, stopped within a bounded time."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from napari_affmae.events import CheckpointSaved, Done, Preview, Progress, Score
from napari_affmae.widgets.job_runner import JobRunner
from napari_affmae.widgets.mailbox import Mailbox

TILE = np.zeros((2, 2), np.float32)


def progress(step):
    return Progress("pretrain", step, None, 0.0, 0.0, {}, 0.0, 0.0, None, 0.0)


def test_batches_are_spaced_and_hold_every_event_but_old_previews(tmp_path):
    now = 0.0
    mailbox = Mailbox(0.1, lambda: now)
    at, batches = [], []

    def post(event):
        if mailbox.put(event):
            at.append(now)
            batches.append(mailbox.fetch())

    for step in range(1, 51):
        now += 0.01
        post(progress(step))
        post(Preview("pretrain", step, TILE, TILE, TILE))
        if step == 25:
            post(CheckpointSaved("pretrain", step, tmp_path))
    post(Score("finetune", 50, 0.5, {}, 10))
    post(Done("pretrain", 50, None))
    batches.append(mailbox.fetch(early=True))
    events = [event for batch in batches for event in batch]
    assert [event.step for event in events if isinstance(event, Progress)] == list(range(1, 51))
    assert {type(event) for event in events} >= {CheckpointSaved, Score, Done}
    assert isinstance(events[-1], Done)
    assert all(sum(isinstance(event, Preview) for event in batch) <= 1 for batch in batches)
    assert events.index(next(e for e in events if isinstance(e, CheckpointSaved))) < len(events) - 3
    shown = [event.step for event in events if isinstance(event, Preview)]
    assert len(shown) >= len(batches) - 1, "the last preview of a batch is not lost to what follows it"
    assert np.diff(at).min() >= 0.0999, "at most ten a second"
    assert 5 <= len(batches) <= 7
    assert mailbox.fetch(early=True) == ()


def test_who_is_late_is_called_once_and_nothing_is_fetched_too_early():
    now = 0.0
    mailbox = Mailbox(0.1, lambda: now)
    assert [mailbox.put(step) for step in range(4)] == [True, False, False, False]
    assert mailbox.fetch() == (0, 1, 2, 3)
    assert not mailbox.put(4)
    assert mailbox.fetch() == ()
    now = 0.15
    assert mailbox.fetch() == (4,)


@pytest.fixture
def runner(qtbot):
    runner = JobRunner()
    yield runner
    runner.close(5)


@pytest.fixture
def heard(runner):
    heard = {"batch": [], "failed": [], "ended": [], "threads": set()}

    def note(name):
        def listen(*arguments):
            heard[name].append(arguments)
            heard["threads"].add(threading.get_ident())

        return listen

    heard["keep"] = [note("batch"), note("failed"), note("ended")]
    runner.batch.connect(heard["keep"][0])
    runner.failed.connect(heard["keep"][1])
    runner.ended.connect(heard["keep"][2])
    return heard


def endless(control):
    step = 0
    while not control.stop_requested:
        control.wait_while_paused()
        step += 1
        time.sleep(0.002)
        yield progress(step)
    yield Done("pretrain", step, None, stopped=True)


def test_a_job_runs_elsewhere_and_is_heard_here(runner, heard, qtbot):
    ran_in = []

    def job(control):
        ran_in.append(threading.get_ident())
        yield progress(1)

    runner.start(job, "test")
    qtbot.waitUntil(lambda: bool(heard["ended"]), timeout=5000)
    assert ran_in != [threading.get_ident()]
    assert heard["threads"] == {threading.get_ident()}
    assert not runner.running


def test_stopping_lets_the_job_say_its_last_words(runner, heard, qtbot):
    runner.start(endless, "test")
    qtbot.waitUntil(lambda: len(heard["batch"]) > 2, timeout=5000)
    with pytest.raises(RuntimeError, match="running already"):
        runner.start(endless, "test")
    runner.stop()
    qtbot.waitUntil(lambda: bool(heard["ended"]), timeout=5000)
    [last] = heard["batch"][-1]
    assert isinstance(last[-1], Done)


def test_a_paused_job_holds_still_and_goes_on(runner, heard, qtbot):
    runner.start(endless, "test")
    qtbot.waitUntil(lambda: len(heard["batch"]) > 1, timeout=5000)
    runner.pause()
    qtbot.wait(250)
    held = len(heard["batch"])
    qtbot.wait(250)
    assert len(heard["batch"]) <= held + 1
    runner.resume()
    qtbot.waitUntil(lambda: len(heard["batch"]) > held + 2, timeout=5000)


def test_what_a_job_says_before_a_long_pause_is_heard_at_once(runner, heard, qtbot):
    release = threading.Event()
    said = []

    def job(control):
        yield progress(1)
        yield progress(2)  # too soon after the first to be a batch of its own
        said.append(time.monotonic())
        release.wait(10)
        yield progress(3)

    def steps():
        return [event.step for (batch,) in heard["batch"] for event in batch]

    runner.start(job, "test")
    qtbot.waitUntil(lambda: steps() == [1, 2], timeout=5000)
    late = time.monotonic() - said[0]
    release.set()
    qtbot.waitUntil(lambda: bool(heard["ended"]), timeout=5000)
    assert steps() == [1, 2, 3]
    assert late < 1  # 0.2 s on a machine that has nothing else to do


@pytest.mark.filterwarnings("default")  # as in use: superqt has a warning instead of a RuntimeError, and tests raise warnings
@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_an_error_arrives_once_and_frees_the_runner(runner, heard, qtbot, kind):
    order = []
    note_batch, note_failure = (lambda batch: order.extend(event.step for event in batch)), order.append
    runner.batch.connect(note_batch)
    runner.failed.connect(note_failure)

    def job(control):
        yield progress(1)
        yield progress(2)
        raise kind("broken")

    runner.start(job, "test")
    qtbot.waitUntil(lambda: bool(heard["ended"]), timeout=5000)
    [(error,)] = heard["failed"]
    assert order == [1, 2, error]
    assert type(error) is kind
    assert str(error) == "broken"
    assert not runner.running


def test_closing_wakes_a_paused_job_waits_for_it_and_drops_what_is_late(runner, heard, qtbot):
    runner.start(endless, "test")
    qtbot.waitUntil(lambda: len(heard["batch"]) > 1, timeout=5000)
    runner.pause()
    qtbot.wait(50)
    before = len(heard["batch"])
    assert runner.close(5)
    qtbot.wait(300)
    assert len(heard["batch"]) == before
    assert not heard["ended"]


def test_closing_waits_no_longer_than_it_was_told(runner, qtbot):
    release = threading.Event()
    started = threading.Event()

    def stubborn(control):
        started.set()
        release.wait(10)
        yield progress(1)

    runner.start(stubborn, "test")
    qtbot.waitUntil(started.is_set, timeout=5000)
    begun = time.monotonic()
    assert not runner.close(0.2)
    assert time.monotonic() - begun < 2
    release.set()


def test_napari_quitting_its_workers_stops_the_job_instead_of_dropping_it(runner, heard, qtbot):
    runner.start(endless, "test")
    qtbot.waitUntil(lambda: len(heard["batch"]) > 1, timeout=5000)
    runner.pause()
    runner._worker.quit()
    qtbot.waitUntil(lambda: bool(heard["ended"]), timeout=5000)
    [last] = heard["batch"][-1]
    assert isinstance(last[-1], Done), "the job saved and ended by itself"
