"""What seeds alone move a score by, and that the comparison in the dock does not take it for a difference."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from napari_affmae.engine.compare import CLEAR, CLEAR_ON_STROKES

HERE = Path(__file__).parent
LINES = HERE.parents[1] / "docs" / "results.jsonl"


@pytest.fixture
def seed_noise(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("seed_noise")
    for name in [name for name in sys.modules if name == "seed_noise" or name.split(".")[0] == "comparison"]:
        del sys.modules[name]


def test_only_what_differs_by_its_seed_is_a_pair(seed_noise: ModuleType) -> None:
    lines = [line for line in seed_noise.read_lines(LINES) if line["method"] == "affmae" and not line["settings"]][:1]
    line = {**lines[0], "paint": "scribbles", "miou": 0.5}
    others = [{"seed": 1, "miou": 0.53}, {"seed": 2, "miou": 0.49}, {"seed": 1, "miou": 0.9, "method": "unet"}]
    changes = {"labels": 9, "minutes": 7.0, "dataset": "em_isbi2012", "settings": {"finetune.focus": 2.0}}
    others += [{"miou": 0.9, name: value} for name, value in changes.items()]
    found = seed_noise.apart([line, *({**line, **other} for other in others)])
    assert sorted(found["scribbles"]) == pytest.approx([0.01, 0.03, 0.04])
    assert found["dense"] == []


@pytest.mark.parametrize(("paint", "clear"), [("dense", CLEAR), ("scribbles", CLEAR_ON_STROKES)])
def test_two_seeds_of_one_method_are_seldom_called_a_difference(seed_noise: ModuleType, paint: str, clear: float) -> None:
    differences = np.array(seed_noise.apart(seed_noise.read_lines(LINES))[paint])
    assert len(differences) >= 18
    assert (differences >= clear).mean() < 0.1
