"""The curve that travels with a model is short, keeps the mean, and survives a resume."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from napari_affmae.engine.curve import MOST_POINTS, Curve


@pytest.mark.parametrize("count", [0, 1, MOST_POINTS - 1, MOST_POINTS, MOST_POINTS + 1, 10_000])
def test_it_is_short_and_keeps_the_mean(count: int) -> None:
    curve = Curve()
    losses = np.random.default_rng(0).random(count) + 1
    for step, loss in enumerate(losses, start=1):
        curve.add(step, float(loss))
    record = curve.record()
    each = record["readings_per_point"]
    assert len(record["steps"]) == len(record["losses"]) < MOST_POINTS
    assert len(json.dumps(record)) < 4000
    assert record["steps"] == [each * (place + 1) for place in range(len(record["steps"]))]
    for place, loss in enumerate(record["losses"]):
        assert loss == pytest.approx(losses[place * each : (place + 1) * each].mean(), rel=1e-3)
    assert count - len(record["steps"]) * each < each


def test_what_is_not_finite_is_left_out() -> None:
    curve = Curve()
    for step, loss in enumerate((1.0, math.nan, math.inf, 2.0)):
        curve.add(step, loss)
    assert curve.record()["losses"] == [1.0, 2.0]


def test_a_resumed_curve_goes_on() -> None:
    whole, part = Curve(), Curve()
    for step in range(400):
        whole.add(step, 1 / (step + 1))
    for step in range(259):  # no whole number of points
        part.add(step, 1 / (step + 1))
    resumed = Curve.resumed(json.loads(json.dumps(part.record())))
    for step in range(259, 400):
        resumed.add(step, 1 / (step + 1))
    assert resumed.record()["steps"] == whole.record()["steps"]
    assert resumed.record()["losses"] == pytest.approx(whole.record()["losses"], rel=1e-3)
    assert resumed.record()["rest"] == pytest.approx(whole.record()["rest"])
    assert Curve.resumed(None).record()["steps"] == []


def test_the_ends_are_means_even_where_every_reading_is_a_point() -> None:
    curve = Curve()
    for step, loss in enumerate((2.2, 2.0, 3.0, 1.9, 1.9, 2.0, 0.6, 0.5, 0.4, 0.4, 1.1, 2.3), start=1):
        curve.add(step, loss)
    assert curve.ends() == {"mean_loss_first": pytest.approx(2.2), "mean_loss_last": pytest.approx(0.94)}
    assert Curve().ends() == {}
    short = Curve()
    for step, loss in enumerate((3.0, 2.0, 1.0)):
        short.add(step, loss)
    assert short.ends() == {"mean_loss_first": 3.0, "mean_loss_last": 1.0}, "the ends of a short one have no point in common"
    alone = Curve()
    alone.add(1, 3.0)
    assert alone.ends() == {"mean_loss_first": 3.0, "mean_loss_last": 3.0}
