"""``napari-affmae export``: a model as one file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from ..config import ExportConfig
from ..control import JobControl
from .options import AsJson, Channels, Model, Overwrite
from .output import print_result
from .progress import watch
from .there import require_there


def export(
    model: Model,
    /,
    *,
    out: Annotated[Path, Parameter(help="Zip file to write.")],
    format: Annotated[Literal["bioimageio"], Parameter(help="Package of the BioImage Model Zoo.")] = "bioimageio",
    image: Annotated[
        Path | None, Parameter(help="Image whose middle becomes the package's public test image. [default: a drawn one]")
    ] = None,
    page: Annotated[int, Parameter(help="Which page of a stack, counted from 0.", validator=Number(gte=0))] = 0,
    channels: Channels = None,
    name: Annotated[str | None, Parameter(help="Name of the model. [default: from its classes]")] = None,
    description: Annotated[str | None, Parameter(help="A sentence or two on what it is for.")] = None,
    author: Annotated[
        list[str] | None, Parameter(negative="", help="“Name” or “Name; affiliation”, as often as there are authors.")
    ] = None,
    licence: Annotated[str, Parameter(help="SPDX identifier of the licence of the weights.")] = "CC-BY-4.0",
    cite: Annotated[
        list[str] | None, Parameter(negative="", help="What to cite, with its DOI or address, as often as needed.")
    ] = None,
    tile: Annotated[
        int | None, Parameter(help="Side of the tiles in pixels. [default: as in training]", validator=Number(gte=16))
    ] = None,
    check: Annotated[bool, Parameter(help="Let bioimageio.core run the package, without napari, before it is kept.")] = True,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write a segmentation network for programs that read the format of the BioImage Model Zoo, and check that it runs there.

    Keep the .safetensors file: only that can be trained further.
    """
    require_there(model, image)
    from ..engine.export import ExportResult
    from ..engine.export import export as run_export
    from .one_image import one_image

    sample = None if image is None else one_image(image, page, channels)
    config = ExportConfig(
        name=name, description=description, authors=tuple(author or ()), licence=licence, cite=tuple(cite or ()), tile=tile,
        check=check,
    )  # fmt: skip
    control = JobControl()
    result = watch(run_export(model, out, config, sample=sample, overwrite=overwrite, control=control), control).result
    if not isinstance(result, ExportResult):
        raise TypeError("the job ended without saying what it wrote")
    checked = {"check": "not run"} if result.check is None else {
        "check": "passed: bioimageio.core ran it without napari", "check_seconds": result.check.seconds,
        "remarks": list(result.check.remarks),
    }  # fmt: skip
    print_result(
        {"written": result.path, "name": result.name, "tile": result.tile, "licence": licence, **checked}
        if json
        else {"written": result.path, "name": result.name, "tile": result.tile, "licence": licence, "check": checked["check"]},
        json,
    )
