"""``napari-affmae suggest``: where a segmenter is unsure, and where a few strokes would teach it most."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..control import JobControl
from ..errors import StorageError
from .options import AsJson, Batch, Device, Files, Images, Model, OutputFolder, Overwrite
from .output import print_result, write_json
from .progress import counting, watch

PLACES = "suggestions.json"


def suggest(
    model: Model,
    images: Images,
    /,
    *,
    out: OutputFolder,
    labels: Annotated[
        Path | None,
        Parameter(help="Paint: label images named as the images, 0 where nothing is painted, or a project folder of the dock."),
    ] = None,
    features: Annotated[
        Path | None,
        Parameter(help="Pretrained network whose features say what is alike. [default: MODEL itself]"),
    ] = None,
    count: Annotated[int, Parameter(help="How many places at most.", validator=Number(gte=1))] = 10,
    files: Files = None,
    tile: Annotated[
        int | None, Parameter(help="Side of the square tiles in pixels. [default: as in training]", validator=Number(gte=16))
    ] = None,
    overlap: Annotated[int | None, Parameter(help="Overlap of the tiles in pixels.", validator=Number(gte=0))] = None,
    batch: Batch = None,
    device: Device = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write how unsure a segmenter is of every pixel, and name places to paint: uncertain, and unlike what is painted.

    Each image gets a TIFF from 0 (sure) to 1 (no idea). The places of all images, best first, are listed in suggestions.json
    with row and column in pixels.
    """
    from ..data.scan import scan
    from ..engine.suggest_files import SuggestResult, suggest_to_files
    from .labelled import painted_in, say_skipped

    if (out / PLACES).exists() and not overwrite:
        raise StorageError(f"{out / PLACES} is there already; choose another folder, or pass --overwrite")
    with counting("read") as on_progress:
        collection = scan(images, files, on_progress=on_progress)
    say_skipped(collection.skipped)
    paint = None if labels is None else painted_in(images, labels, files)
    control = JobControl()
    events = suggest_to_files(
        model, collection, out, paint=paint, features=features, count=count, tile=tile, overlap=overlap, batch=batch,
        device=device or "auto", overwrite=overwrite, control=control,
    )  # fmt: skip
    found = watch(events, control).result
    if not isinstance(found, SuggestResult):
        raise TypeError("the job ended without saying what it found")
    places = [{"rank": rank, **asdict(place)} for rank, place in enumerate(found.suggestions.places, start=1)]
    report = {"side": found.suggestions.side, "places": places}
    written = [*found.written, write_json(out / PLACES, report, overwrite)]
    print_result({"written": written, **report}, json)
