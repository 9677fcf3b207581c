"""Options that several commands share, so that they mean and say the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number, mutually_exclusive

from ..config import CARD_TILE, CPU_TILE, DeviceName

_ONE_BUDGET = Group("Budget (one of)", validator=mutually_exclusive)

Images = Annotated[Path, Parameter(help="Folder of PNG, JPEG or TIFF images (subfolders too), or one such file.")]
ImageFolder = Annotated[Path, Parameter(help="Folder of images, or one file.")]
LabelFolder = Annotated[Path, Parameter(help="Folder of label images whose names match the images, but for the suffix.")]
Model = Annotated[Path, Parameter(help="Run folder or model file.")]
Run = Annotated[Path, Parameter(help="Run folder to write; must be new, or hold the run to resume.")]
OutputFolder = Annotated[Path, Parameter(help="Folder to write results to.")]
Files = Annotated[str | None, Parameter(help='Use only these: a text file of names, or "split.csv:train".')]
Device = Annotated[DeviceName | None, Parameter(help="auto takes CUDA, then MPS, then the CPU. [default: auto]")]
Steps = Annotated[int | None, Parameter(help="Train for so many steps.", group=_ONE_BUDGET, validator=Number(gte=1))]
Epochs = Annotated[float | None, Parameter(help="Train for so many passes.", group=_ONE_BUDGET, validator=Number(gt=0))]
Minutes = Annotated[float | None, Parameter(help="Train for so many minutes.", group=_ONE_BUDGET, validator=Number(gt=0))]
Tile = Annotated[
    int | None,
    Parameter(
        help=f"Side of the square tiles in pixels. [default: the model's, else {CPU_TILE} on a CPU, {CARD_TILE} on a card]",
        validator=Number(gte=16),
    ),
]
Batch = Annotated[int | None, Parameter(help="Tiles per step; chosen by device if not given.", validator=Number(gte=1))]
Seed = Annotated[int | None, Parameter(help="Everything random follows from it. [default: 0]", validator=Number(gte=0))]
Resume = Annotated[bool, Parameter(negative="", help="Go on with the run that is in the folder, with its settings.")]
Sparse = Annotated[bool, Parameter(negative="", help="Labels are paint: 0 is not labelled, classes count from 1.")]
Foreground = Annotated[bool, Parameter(negative="", help="Labels are instances: turn ids into background and foreground.")]
Overwrite = Annotated[bool, Parameter(negative="", help="Replace results that are there already.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
