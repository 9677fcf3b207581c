"""``napari-affmae demo``: the whole loop on data it brings along."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import ConfigError, StorageError
from .options import AsJson
from .output import print_result
from .progress import reporting


def demo(
    *,
    headless: Annotated[
        bool, Parameter(negative="", help="Run unattended: write a screenshot and all layers, then end.")
    ] = False,
    out: Annotated[Path | None, Parameter(help="Folder for the screenshot and layers. [default: demo-out if headless]")] = None,
    json: AsJson = False,
) -> None:
    """Pretrain, paint, finetune and look inside, in napari, on images it brings along. Takes a few minutes."""
    missing = [name for name in ("napari", "qtpy") if importlib.util.find_spec(name) is None]
    if missing:
        raise StorageError(
            f"the demo opens napari, and {missing[0]} is not installed; install it with "
            f"{Path(sys.executable).name} -m pip install 'napari[all]'"
        )
    from ..widgets.demo import run_demo

    folder = Path("demo-out") if headless and out is None else out
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out must be a folder, but {folder} is a file")
    with reporting() as on_event:
        summary = run_demo(folder, headless, on_event)
    print_result(summary, json)
