"""Output that goes elsewhere than to a terminal: one that nobody reads to its end, and one whose encoding lacks characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""Where there are no characters but those of ASCII, on Linux; on Windows the locale stays as it is."""


def test_a_reader_that_went_away_is_nothing_to_complain_about() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            (sys.executable, "-m", "napari_affmae", "doctor", "--json"),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.stderr, done.returncode) == ("", 141)


def card(model: Path, **environment: str) -> bytes:
    """Return a model's card as it comes out of a pipe, and behind it what is said of a file of another name."""
    program = "import sys; from napari_affmae.cli import main; print(main(['card', *sys.argv[1:]]), main(['card', '\\u2192']))"
    asked = {name: value for name, value in os.environ.items() if name != "PYTHONIOENCODING"} | environment
    words = (sys.executable, "-c", program, str(model))
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=asked, check=True)
    assert done.stdout.rstrip().endswith(b"0 1")
    return done.stdout


def test_a_pipe_gets_every_character_whatever_the_locale(pretrained: Path) -> None:
    said = card(pretrained, **C_LOCALE).decode("utf-8")
    assert " \N{RIGHTWARDS ARROW} " in said
    assert "no model at \N{RIGHTWARDS ARROW}: " in said


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_encoding_that_is_asked_for_is_kept_without_the_characters_that_it_lacks(pretrained: Path, encoding: str) -> None:
    said = card(pretrained, PYTHONIOENCODING=encoding).decode(encoding)
    assert " ? " in said
    assert "no model at ?: " in said
