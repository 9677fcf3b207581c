"""Format libraries do not speak to the user, and everybody else still can."""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_affmae.data.image_file import open_image_file
from napari_affmae.data.quiet import quiet
from napari_affmae.errors import DataError

PICTURE = Image.fromarray(np.arange(900, dtype=np.uint8).reshape(30, 30))


def test_a_very_large_picture_is_read_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns beyond this and refuses twice as many
    with open_image_file(tmp_path / "a.png") as file:
        assert file.read(0).shape == (30, 30, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(DataError, match="save it as TIFF instead"):
        open_image_file(tmp_path / "a.png")


def test_log_lines_of_this_thread_only(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tifffile")

    def elsewhere() -> None:
        logger.warning("from elsewhere")

    with quiet():
        logger.warning("from here")
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    logger.warning("afterwards")
    assert caplog.messages == ["from elsewhere", "afterwards"]


def test_warnings_are_back_when_the_last_thread_leaves() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with quiet():
            inside.set()
            leave.wait(timeout=10)

    thread = threading.Thread(target=stay)
    with quiet():
        thread.start()
        inside.wait(timeout=10)
        warnings.warn("not heard", stacklevel=1)
    warnings.warn("not heard either: a thread is still reading", stacklevel=1)
    leave.set()
    thread.join()
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="heard again"):
        warnings.warn("heard again", stacklevel=1)


def test_quiet_ends_with_an_error() -> None:
    before = list(warnings.filters)
    with pytest.raises(KeyError), quiet(), quiet():
        raise KeyError
    assert list(warnings.filters) == before
