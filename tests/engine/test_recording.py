"""Work that is called, then recorded, then replayed: the order of things, with a recording that only pretends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_affmae.engine import recording
from napari_affmae.engine.recording import Repeated, can_record

CPU = torch.device("cpu")


class Pretended:
    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> None:
        self.function, self.calls = function, 0

    def replay(self, arguments: tuple[Tensor, ...]) -> Tensor:
        self.calls += 1
        return self.function(arguments) + 100 * self.calls

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> tuple[Repeated[Tensor], list[str]]:
    """Return a doubling that can be recorded, and the list of what was asked of it."""
    monkeypatch.setattr(recording, "can_record", lambda _: True)
    monkeypatch.setattr(recording, "_Recording", Pretended)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: torch.no_grad())
    asked: list[str] = []

    def double(arguments: tuple[Tensor, ...]) -> Tensor:
        asked.append("call")
        return 2 * arguments[0]

    return Repeated(double, lambda _: asked.append("dry run"), CPU), asked


def test_called_first_then_recorded_then_replayed(repeated: tuple[Repeated[Tensor], list[str]]) -> None:
    function, asked = repeated
    results = [function((torch.ones(1),)).item() for _ in range(4)]
    assert results == [2, 102, 202, 302]
    assert asked == ["dry run", "call", "call", "call", "call"]


@pytest.mark.parametrize("other", [torch.ones(2), torch.ones(1, dtype=torch.int64)])
def test_other_shapes_start_over(repeated: tuple[Repeated[Tensor], list[str]], other: Tensor) -> None:
    function, asked = repeated
    for _ in range(3):
        function((torch.ones(1),))
    assert function((other,))[0].item() == 2
    assert asked.count("dry run") == 2
    assert function((other,))[0].item() == 102


def test_forgetting_starts_over(repeated: tuple[Repeated[Tensor], list[str]]) -> None:
    function, _ = repeated
    for _ in range(3):
        function((torch.ones(1),))
    recorded = function._recording
    function.forget()
    assert recorded.finished, "a card may still be at the last replay"
    assert function((torch.ones(1),)).item() == 2


def test_no_two_living_recordings_share_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Stream:
        def __init__(self, device: torch.device) -> None:
            self.device = device
            made.append(self)

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    streams = recording._Streams()
    first, second = streams.take(CPU), streams.take(CPU)
    assert first is not second
    streams.give_back(first)
    assert streams.take(CPU) is first
    assert streams.take(CPU) not in (first, second)
    assert len(made) == 3, "torch has 32 and then begins again: those that are free are reused"


def test_a_call_that_fails_is_not_recorded_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "can_record", lambda _: True)
    monkeypatch.setattr(recording, "_Recording", Pretended)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: torch.no_grad())
    fails = iter([True, False, False])

    def work(arguments: tuple[Tensor, ...]) -> Tensor:
        if next(fails):
            raise torch.OutOfMemoryError("out of memory")
        return arguments[0]

    function: Repeated[Any] = Repeated(work, lambda _: None, CPU)
    with pytest.raises(torch.OutOfMemoryError):
        function((torch.ones(1),))
    assert function((torch.ones(1),)).item() == 1, "called again, not recorded"


def test_nothing_is_recorded_on_a_cpu() -> None:
    assert not can_record(CPU)
    calls: list[int] = []
    function: Repeated[None] = Repeated(lambda _: calls.append(1), lambda _: calls.append(-1), CPU)
    for _ in range(3):
        function((torch.ones(1),))
    assert calls == [1, 1, 1]
