"""``napari-affmae segment``: label every pixel of images."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from ..control import JobControl
from ..errors import DataError, StorageError
from ..events import Started
from .options import AsJson, Batch, Device, Files, Images, Model, OutputFolder, Overwrite
from .output import print_result
from .progress import counting, watch

if TYPE_CHECKING:
    from ..data.records import ImageRecord
    from ..engine.segment import SegmentationResult

Format = Literal["tiff", "ome-zarr"]
SUFFIXES = {"tiff": ".tif", "ome-zarr": ".ome.zarr"}
PROBABILITIES = "_probabilities.tif"


def segment(
    model: Model,
    images: Images,
    /,
    *,
    out: OutputFolder,
    files: Files = None,
    format: Annotated[Format, Parameter(help="tiff: ids; ome-zarr: image, ids and class names in one.")] = "tiff",
    probabilities: Annotated[bool, Parameter(negative="", help="Write the probability of each class as well.")] = False,
    tile: Annotated[
        int | None, Parameter(help="Side of the square tiles in pixels. [default: as in training]", validator=Number(gte=16))
    ] = None,
    overlap: Annotated[int | None, Parameter(help="Overlap of the tiles in pixels.", validator=Number(gte=0))] = None,
    batch: Batch = None,
    device: Device = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Label every pixel of one image or a folder of them, one file per image, named like the image.

    Ids are those of the model's class table; the result lists them.
    """
    from ..data.scan import scan
    from ..engine.segment import class_table_of, load_segmenter, segment_events
    from .labelled import say_skipped

    segmenter = load_segmenter(model)
    with counting("read") as on_progress:
        collection = scan(images, files, on_progress=on_progress)
    say_skipped(collection.skipped)
    targets = [out / name for name in output_names([record.name for record in collection.records], SUFFIXES[format])]
    if not overwrite:
        refuse_existing(targets, probabilities and format == "tiff")
    written: list[Path] = []
    failed: list[str] = []
    control = JobControl()
    for number, (record, target) in enumerate(zip(collection.records, targets, strict=True), start=1):
        print(f"{number}/{len(targets)}  {record.name}", file=sys.stderr)
        try:
            pixels = record.read()
        except DataError as error:
            print(f"note: skipped {error}", file=sys.stderr)
            failed.append(record.name)
            continue
        events = segment_events(
            segmenter, pixels, tile=tile, overlap=overlap, batch=batch, device=device or "auto",
            pixel_size=record.pixel_size, control=control,
        )  # fmt: skip
        if number > 1:  # device and network are said once
            events = (event for event in events if not isinstance(event, Started))
        result = watch(events, control).result
        write(target, record, result, format, probabilities, overwrite)
        written.append(target)
    if not written:
        raise DataError(f"no image of {images} could be read; see the notes above")
    classes = [{"id": info.id, "name": info.name, "color": info.color} for info in class_table_of(segmenter)]
    skipped = [*(item.name for item in collection.skipped), *failed]
    print_result({"written": written, "classes": classes, "skipped": skipped}, json)


def write(
    target: Path,
    record: ImageRecord,
    result: SegmentationResult,
    format: Format,
    probabilities: bool,
    overwrite: bool,
) -> None:
    """Write the result for one image in the chosen format."""
    from ..data.write import write_labels_tiff, write_probabilities_tiff
    from ..data.write_ome_zarr import write_ome_zarr

    size = record.pixel_size
    if format == "ome-zarr":
        write_ome_zarr(
            target, record.read(), result.labels, result.classes,
            probabilities=result.probabilities if probabilities else None, pixel_size=size, overwrite=overwrite,
        )  # fmt: skip
        return
    write_labels_tiff(target, result.labels, size, overwrite=overwrite)
    if probabilities:
        write_probabilities_tiff(beside(target), result.probabilities, size, overwrite=overwrite)


def output_names(names: Sequence[str], suffix: str) -> list[str]:
    """Name one output per image: like the image, in the same subfolder, with another suffix.

    A page ``stack.tif[3]`` becomes ``stack_3``; images that would share a name keep their old suffix in it.
    """
    short = [_without_suffix(name) for name in names]
    shared = Counter(short)
    return [
        (stem if shared[stem] == 1 else name.replace("[", "_").replace("]", "")) + suffix
        for name, stem in zip(names, short, strict=True)
    ]


def beside(target: Path) -> Path:
    """Return the file for probabilities that goes with a label file."""
    return target.with_name(target.name.removesuffix(SUFFIXES["tiff"]) + PROBABILITIES)


def refuse_existing(targets: Sequence[Path], with_probabilities: bool) -> None:
    """Raise :class:`StorageError` before any work if something would be overwritten."""
    files = [*targets, *(beside(target) for target in targets if with_probabilities)]
    there = [path for path in files if path.exists()]
    if there:
        what = f"{there[0]} is" if len(there) == 1 else f"{there[0]} and {len(there) - 1} more are"
        raise StorageError(f"{what} there already; choose another folder, or pass --overwrite to replace it")


def _without_suffix(name: str) -> str:
    path, bracket, page = name.partition("[")
    stem = PurePosixPath(path).with_suffix("").as_posix()
    return f"{stem}_{page.removesuffix(']')}" if bracket else stem
