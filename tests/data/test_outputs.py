"""Names of outputs: like the image, unique, and inside the folder."""

from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path

import pytest

from napari_affmae.config import OutputFormat
from napari_affmae.data.outputs import SUFFIXES, name_outputs

OUT = Path("out")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.png", "a"),
        ("sub/a.b.tif", "sub/a.b"),
        ("stack.tif[3]", "stack_3"),
        ("layer[1,2]", "layer_1_2"),
        ("cells.ome.zarr", "cells"),
        ("cells.zarr[0]", "cells_0"),
        ("cells.ome.tif[0]", "cells_0"),
        ("sub/cells.OME.TIFF", "sub/cells"),
        (".ome.tif", ".ome"),
        ("cell[1].png", "cell[1]"),
        ("exp [a]/x.png", "exp [a]/x"),
        ("cell[1].tif[2]", "cell[1]_2"),
        ("../../etc/passwd.tif", "etc/passwd"),
        ("/root.tif", "root"),
        ('a: "b"?', "a_ _b__"),
        ("..", "image"),
    ],
)
def test_names(name: str, stem: str) -> None:
    (outputs,) = name_outputs(OUT, [name], "tiff", probabilities=True, instances=True)
    expected = [OUT / f"{stem}{more}.tif" for more in ("", "_probabilities", "_instances")]
    assert outputs.paths() == expected
    (zarr,) = name_outputs(OUT, [name], "ome-zarr", probabilities=True, instances=True)
    assert zarr.paths() == [OUT / f"{stem}.ome.zarr"]


def test_images_that_would_share_a_name() -> None:
    names = name_outputs(OUT, ["a.png", "a.tif", "b.zarr", "b.tif[0]"], "tiff")
    assert [outputs.labels.name for outputs in names] == ["a.png.tif", "a.tif.tif", "b.tif", "b_0.tif"]
    names = name_outputs(OUT, ["[a].tif", "[a].png[3]", "[a]_3.jpg"], "tiff")
    assert [outputs.labels.name for outputs in names] == ["[a].tif", "[a].png_3.tif", "[a]_3.jpg.tif"]


NAMES = (
    "a.png", "a.tif", "a.png.jpg", "a_probabilities.png", "a_probabilities.tif", "a_instances.png", "a.tif[0]", "a_0.png",
    "a:b.png", "a_b.png", "A.png", "a.png_2.jpg", "a.png_probabilities.tif", "sub/a.png", "sub/../a.png", "a.ome.zarr",
    "a[1].png", "a_1.png",
)  # fmt: skip


@pytest.mark.parametrize("format", SUFFIXES)
def test_no_two_outputs_of_a_job_are_one(format: OutputFormat) -> None:
    for names in (NAMES, NAMES[::-1], *permutations(NAMES, 2), *combinations(NAMES, 4)):
        outputs = name_outputs(OUT, names, format, probabilities=True, instances=True)
        paths = [str(path).casefold() for one in outputs for path in one.paths()]
        assert len(outputs) == len(names)
        assert len(set(paths)) == len(paths), names
