"""``napari-affmae inspect``: where a network puts its tokens, and what they see, as pictures and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from ..errors import StorageError
from .options import AsJson, Channels, Device, Model, OutputFolder, Overwrite
from .output import number_of, print_result, write_json
from .there import require_there

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..engine.inspect import Inspection


def inspect(
    model: Model,
    image: Annotated[Path, Parameter(help="A PNG, JPEG or TIFF file.")],
    /,
    *,
    out: OutputFolder,
    page: Annotated[int, Parameter(help="Which page of a stack, counted from 0.", validator=Number(gte=0))] = 0,
    channels: Channels = None,
    device: Device = None,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write pictures of the tokens of each stage, what merged into which, and the features, with numbers in inspection.json."""
    require_there(model, image)
    from ..engine.inspect import inspect as run_inspection
    from ..model.model_file import load_model
    from .one_image import one_image
    from .token_pictures import pictures

    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise StorageError(f"{out} is not empty; choose another folder, or pass --overwrite to replace what is there")
    network = load_model(model)
    record = one_image(image, page, channels)
    inspection = run_inspection(network, record.open(), device=device or "auto")
    pixels = record.read()  # not before: a large image is refused without being read
    written = [write_png(out / f"{name}.png", picture, overwrite) for name, picture in pictures(pixels, inspection)]
    numbers = describe(inspection)
    report = {"image": record.name, "height": pixels.shape[0], "width": pixels.shape[1], **numbers}
    written.append(write_json(out / "inspection.json", report, overwrite))
    shown = [{name: value for name, value in stage.items() if name != "positions_rc"} for stage in numbers["stages"]]
    meaning = "how many directions their features use"
    tokens = {
        stage["name"]: f"{stage['tokens']} tokens, effective rank {stage['effective_rank']:.1f} ({meaning})" for stage in shown
    }
    print_result({"written": written, "stages": shown}, json, {"written": number_of(written, "file", out), "stages": tokens})


def describe(inspection: Inspection) -> dict[str, Any]:
    """Return the numbers of an inspection: per stage the token count, effective rank and positions (row, column in pixels)."""
    return {
        "stages": [
            {
                "name": stage.name,
                "tokens": len(stage.positions_rc),
                "effective_rank": float(stage.effective_rank),
                "effective_rank_normalised": float(stage.effective_rank_normalised),
                "positions_rc": [[round(float(row), 2), round(float(column), 2)] for row, column in stage.positions_rc],
            }
            for stage in inspection.stages
        ]
    }


def write_png(path: Path, picture: npt.NDArray[np.uint8], overwrite: bool) -> Path:
    """Write ``[H, W, 3]`` as PNG, whole."""
    from PIL import Image

    from ..data.write import place_whole

    return place_whole(path, lambda place: Image.fromarray(picture).save(place, format="PNG"), overwrite)
