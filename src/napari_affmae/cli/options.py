"""Options that several commands share, so that they mean and say the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..config import DeviceName, Views

Images = Annotated[Path, Parameter(help="Folder of PNG, JPEG, TIFF or OME-Zarr images (subfolders too), or one such image.")]
ImageFolder = Annotated[Path, Parameter(help="Folder of images, or one file.")]
LabelFolder = Annotated[
    Path,
    Parameter(help="Folder of label images named as the images but for the suffix, or a project folder of the dock."),
]
Model = Annotated[Path, Parameter(help="Run folder, model file, or a project folder of the dock, for its network in use.")]
OutputFolder = Annotated[Path, Parameter(help="Folder to write results to.")]
Files = Annotated[str | None, Parameter(help='Use only these: a text file of names, or "split.csv:train".')]
Device = Annotated[DeviceName | None, Parameter(help="auto takes CUDA, then MPS, then the CPU. [default: auto]")]
Channels = Annotated[
    list[int] | None,
    Parameter(negative="", help="Channels to take, counted from 0, as often as needed.", validator=Number(gte=0)),
]
Tile = Annotated[
    int | None, Parameter(help="Side of the square tiles in pixels. [default: as in training]", validator=Number(gte=16))
]
Overlap = Annotated[int | None, Parameter(help="Overlap of the tiles in pixels.", validator=Number(gte=0))]
Batch = Annotated[int | None, Parameter(help="Tiles per step; chosen by device if not given.", validator=Number(gte=1))]
ViewCount = Annotated[
    Views, Parameter(help="Average over so many mirrored and turned views of each tile, 1, 2, 4 or 8: better, slower.")
]
Sparse = Annotated[bool, Parameter(negative="", help="Labels are paint: 0 is not labelled, classes count from 1.")]
Foreground = Annotated[bool, Parameter(negative="", help="Labels are instances: turn ids into background and foreground.")]
ResumeFolder = Annotated[bool, Parameter(negative="", help="Leave out what is finished in the folder, with the same settings.")]
Overwrite = Annotated[bool, Parameter(negative="", help="Replace results that are there already.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
