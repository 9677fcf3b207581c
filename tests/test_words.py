"""Numbers and messages for people."""

from __future__ import annotations

import pytest

from napari_affmae.words import area, sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no CUDA device: choose “CPU”", "No CUDA device: choose “CPU”."),
        ("runs/cells/model.safetensors is damaged", "runs/cells/model.safetensors is damaged."),
        ("a.tif cannot be read", "a.tif cannot be read."),
        ("Is it there?", "Is it there?"),
    ],
)
def test_an_error_is_said_as_a_sentence_that_changes_no_path(text, said):
    assert sentence(text) == said


AREAS = [(0.01254, "0.01254"), (275.93, "275.9"), (56863.2, "56\u202f863"), (1.3e9, "1\u202f300\u202f000\u202f000")]


@pytest.mark.parametrize(("value", "said"), AREAS)
def test_an_area_is_no_power_of_ten(value, said):
    assert area(value) == said
