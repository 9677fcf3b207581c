"""``napari-affmae segment``: label every pixel of images."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..config import ApplyConfig, OutputFormat
from ..control import JobControl
from ..words import some_names
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
    ViewCount,
)
from .output import number_of, print_result
from .progress import counting, watch
from .refinement import RefinementOptions
from .there import require_there


def segment(
    model: Model,
    images: Images,
    /,
    *,
    out: OutputFolder,
    files: Files = None,
    format: Annotated[OutputFormat, Parameter(help="tiff: ids; ome-zarr: image, ids and class names in one.")] = "tiff",
    probabilities: Annotated[bool, Parameter(negative="", help="Write the probability of each class as well.")] = False,
    channels: Channels = None,
    tile: Tile = None,
    overlap: Overlap = None,
    batch: Batch = None,
    views: ViewCount = 1,
    device: Device = None,
    refinement: RefinementOptions | None = None,
    resume: ResumeFolder = False,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Label every pixel of one image or a folder of them, one file per image, named like the image.

    Ids are those of the model's class table; the result lists them. The folder also gets areas.csv with the area of each class
    in each image, and segment.jsonl with the settings, from which --resume goes on.
    """
    require_there(model, images)
    from ..data.classes import class_table_of
    from ..data.scan import scan
    from ..engine.apply import ApplyResult, apply
    from ..engine.segment import load_segmenter
    from .labelled import say_skipped

    segmenter = load_segmenter(model)
    config = ApplyConfig(
        format=format, probabilities=probabilities, tile=tile, overlap=overlap, batch=batch, device=device or "auto",
        views=views, refinement=(refinement or RefinementOptions()).settings(),
    )  # fmt: skip
    with counting("read") as on_progress:
        collection = scan(images, files, channels, on_progress=on_progress)
    say_skipped(collection.skipped)
    control = JobControl()
    result = watch(apply(model, collection, out, config, resume=resume, overwrite=overwrite, control=control), control).result
    if not isinstance(result, ApplyResult):
        raise TypeError("the job ended without saying what it wrote")
    skipped = [item.name for item in (*collection.skipped, *result.failed)]
    report = {
        "written": result.written,
        "kept": result.kept,
        "tables": result.tables,
        "classes": [{"id": info.id, "name": info.name, "color": info.color} for info in class_table_of(segmenter)],
        "skipped": skipped,
    }
    shown = {
        "written": number_of(result.written, "image", out),
        "kept": number_of(result.kept, "image"),
        "tables": ", ".join(table.name for table in result.tables),
        "classes": report["classes"],
        "skipped": some_names(skipped),
    }
    print_result(report, json, shown)
