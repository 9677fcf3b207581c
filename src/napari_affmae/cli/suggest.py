"""``napari-affmae suggest``: where a segmenter is unsure, and where a few strokes would teach it most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..control import JobControl
from ..errors import StorageError
from .options import (
    AsJson,
    Batch,
    Channels,
    Device,
    Files,
    Images,
    Model,
    OutputFolder,
    Overlap,
    Overwrite,
    ResumeFolder,
    Tile,
)
from .output import number_of, print_result, write_json
from .progress import counting, watch
from .there import require_there

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
    channels: Channels = None,
    tile: Tile = None,
    overlap: Overlap = None,
    batch: Batch = None,
    device: Device = None,
    resume: ResumeFolder = False,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write how unsure a segmenter is of every pixel, and name places to paint: uncertain, and unlike what is painted.

    Each image gets a TIFF from 0 (sure) to 1 (no idea). The places of all images, best first, are listed in suggestions.json
    with row and column in pixels. --resume predicts only images that are new; the places are looked for anew in all of them.
    """
    require_there(model, images, labels)
    if features is not None:
        require_there(features)
    from ..data.output_log import PLACES_LOG
    from ..data.scan import scan
    from ..engine.suggest_files import SuggestResult, suggest_to_files
    from .labelled import painted_in, say_skipped

    is_ours = (out / PLACES_LOG).is_file()
    if (out / PLACES).exists() and not (overwrite or (resume and is_ours)):
        go_on = ", --resume to go on with what is there" if is_ours else ""
        raise StorageError(f"{out / PLACES} is there already; choose another folder{go_on}, or pass --overwrite")
    with counting("read") as on_progress:
        collection = scan(images, files, channels, on_progress=on_progress)
    say_skipped(collection.skipped)
    paint = None if labels is None else painted_in(images, labels, files, channels, collection.skipped)
    control = JobControl()
    events = suggest_to_files(
        model, collection, out, paint=paint, features=features, count=count, tile=tile, overlap=overlap, batch=batch,
        device=device or "auto", resume=resume, overwrite=overwrite, control=control,
    )  # fmt: skip
    found = watch(events, control).result
    if not isinstance(found, SuggestResult):
        raise TypeError("the job ended without saying what it found")
    places = [{"rank": rank, **place.model_dump()} for rank, place in enumerate(found.suggestions.places, start=1)]
    report = {"side": found.suggestions.side, "places": places}
    written = [*found.written, write_json(out / PLACES, report, overwrite or resume)]
    shown = {"written": number_of(written, "file", out), "side": f"{found.suggestions.side} pixels each", "places": places}
    print_result({"written": written, **report}, json, shown)
