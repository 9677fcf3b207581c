"""Output that nobody reads to its end, as with ``| head``."""

from __future__ import annotations

import os
import subprocess
import sys


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
