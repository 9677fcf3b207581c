"""The pages of a stack are looked for once, as long as the file stays what it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_affmae.data import tiff_stacks
from napari_affmae.data.image_file import open_image_file
from napari_affmae.data.scan import scan

PAGES = 12


def write(path: Path, seed: int) -> np.ndarray:
    """Write a packed stack, some time ago."""
    stack = np.random.default_rng(seed).integers(0, 256, (PAGES, 20, 30), dtype=np.uint8)
    with tifffile.TiffWriter(path) as file:
        for page in stack:
            file.write(page, compression="zlib", contiguous=False)
    os.utime(path, (1e9 + seed, 1e9 + seed))
    return stack


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the files that are parsed, in order."""
    names: list[str] = []
    parse = tifffile.TiffFile.__init__

    def noted(file: tifffile.TiffFile, path: Path, **options: bool) -> None:
        names.append(path.name)
        parse(file, path, **options)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", noted)
    yield names
    tiff_stacks._known.clear()


def test_a_stack_is_parsed_once(tmp_path: Path, parses: list[str]) -> None:
    stack = write(tmp_path / "s.tif", 0)
    for record in scan(tmp_path).records:
        np.testing.assert_array_equal(record.read()[..., 0], stack[record.page])
    assert parses == ["s.tif"]


def test_a_stack_that_changes_is_parsed_anew(tmp_path: Path, parses: list[str]) -> None:
    write(tmp_path / "s.tif", 0)
    record = scan(tmp_path).records[7]
    record.read()
    for seed in (1, 2):
        stack = write(tmp_path / "s.tif", seed)
        np.testing.assert_array_equal(record.read()[..., 0], stack[7])
    assert len(parses) == 3


def test_a_stack_that_was_written_just_now_is_not_trusted(tmp_path: Path, parses: list[str]) -> None:
    """The time of a file may stay the same for a moment in which it changes."""
    write(tmp_path / "s.tif", 0)
    os.utime(tmp_path / "s.tif")
    for record in scan(tmp_path).records[:2]:
        record.read()
    assert len(parses) == 3


def test_few_stacks_are_remembered_and_none_stays_open(tmp_path: Path, parses: list[str]) -> None:
    count = tiff_stacks.MOST + 2
    for number in range(count):
        write(tmp_path / f"{number}.tif", number)
    scan(tmp_path)
    assert len(tiff_stacks._known) == tiff_stacks.MOST
    assert all(stack._tiff.filehandle.closed for stack in tiff_stacks._known.values())
    assert len(parses) == count


def test_two_readers_have_a_file_each(tmp_path: Path, parses: list[str]) -> None:
    stack = write(tmp_path / "s.tif", 0)
    with open_image_file(tmp_path / "s.tif"):
        pass
    with open_image_file(tmp_path / "s.tif") as one, open_image_file(tmp_path / "s.tif") as other:
        assert one is not other
        for page in (3, 9):
            for file in (one, other):
                np.testing.assert_array_equal(file.read(page)[..., 0], stack[page])


def test_a_stack_that_failed_is_looked_at_anew(tmp_path: Path, parses: list[str]) -> None:
    write(tmp_path / "s.tif", 0)
    for _ in range(2):
        with pytest.raises(ValueError, match="reader's own"), open_image_file(tmp_path / "s.tif"):
            raise ValueError("reader's own")
    assert len(parses) == 2
