"""The learning rate follows the used part of any kind of budget."""

from __future__ import annotations

from itertools import pairwise

import pytest

from napari_affmae.config import Budget
from napari_affmae.engine.schedule import LEAST, Schedule


def test_steps() -> None:
    schedule = Schedule(Budget(steps=50), 0.1, 7)
    assert schedule.total_steps == 50
    assert [schedule.fraction(step, 1e9) for step in (0, 25, 50, 60)] == [0, 0.5, 1, 1]


def test_epochs_become_steps() -> None:
    assert Schedule(Budget(epochs=2.5), 0.1, 10).total_steps == 25
    assert Schedule(Budget(epochs=0.01), 0.1, 10).total_steps == 1


def test_minutes() -> None:
    schedule = Schedule(Budget(minutes=2), 0.1, 7)
    assert schedule.total_steps is None
    assert [schedule.fraction(10**6, seconds) for seconds in (0, 60, 120, 180)] == [0, 0.5, 1, 1]


def test_warm_up_then_cosine() -> None:
    schedule = Schedule(Budget(steps=100), 0.2, 1)
    factors = [schedule.factor(i / 100) for i in range(101)]
    assert factors[0] == pytest.approx(LEAST)
    assert factors[20] == pytest.approx(1)
    assert factors[100] == pytest.approx(LEAST)
    assert factors[60] == pytest.approx((1 + LEAST) / 2)
    assert all(a < b for a, b in pairwise(factors[:21]))
    assert all(a > b for a, b in pairwise(factors[20:]))


def test_no_warm_up_starts_at_the_peak() -> None:
    assert Schedule(Budget(steps=3), 0, 1).factor(0) == 1
