"""The dock's settings, kept between sessions as one small JSON file in the user's configuration folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field
from qtpy.QtCore import QStandardPaths

from ..card import ClassInfo
from ..config import Average, Budget, Deform, DeviceName, FinetuneConfig, Focus, OutputFormat, Refinement, Views
from ..errors import ConfigError
from ..model_config import PresetName, Selection
from ..settings import Settings
from ..whole_file import replace_file
from .state import DEFAULT_CLASSES

logger = logging.getLogger(__name__)


class DockSettings(Settings):
    """What the forms show; every field is one control. Paths are text, empty for none; a tile of None is chosen by device."""

    folder: str = ""
    preset: PresetName = "tiny"
    selection: Selection = "global"
    tile: Annotated[int, Field(ge=32, le=4096)] | None = None
    minutes: Annotated[float, Field(gt=0, le=10_000)] = 10.0
    device: DeviceName = "auto"
    project: str = ""
    from_scratch: bool = False
    train_minutes: Annotated[float, Field(gt=0, le=10_000)] = 2.0
    deform: Deform = FinetuneConfig().deform
    focus: Focus = FinetuneConfig().focus
    average: Average = FinetuneConfig().average
    views: Views = 1
    brush: Annotated[int, Field(ge=1, le=200)] = 10
    classes: tuple[ClassInfo, ...] = DEFAULT_CLASSES
    probabilities: bool = False
    uncertainty: bool = False
    refinement: Refinement = Refinement(specks=50, holes=50, instances=True, split=1.0)
    apply_folder: str = ""
    apply_format: OutputFormat = "tiff"
    apply_probabilities: bool = False
    export_authors: str = ""
    export_licence: str = "CC-BY-4.0"

    def training(self) -> FinetuneConfig:
        """Return how the network learns from paint."""
        return FinetuneConfig(
            budget=Budget(minutes=self.train_minutes),
            device=self.device,
            deform=self.deform,
            focus=self.focus,
            average=self.average,
        )


def default_path() -> Path:
    """Return where the settings live on this machine."""
    base = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericConfigLocation)
    return Path(base) / "napari-affmae" / "dock.json"


class SettingsStore:
    """Reads the settings when the dock opens and writes them when they change.

    Parameters
    ----------
    path
        The JSON file; None takes :func:`default_path`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = default_path() if path is None else path

    def load(self) -> DockSettings:
        """Return the saved settings, or the defaults if there are none or another version wrote them."""
        try:
            return DockSettings.from_json(self.path.read_bytes())
        except FileNotFoundError:
            return DockSettings()
        except (OSError, ConfigError) as error:
            logger.warning("settings in %s cannot be used and start over: %s", self.path, error)
            return DockSettings()

    def save(self, settings: DockSettings) -> None:
        """Write the settings whole or not at all; a read-only home is no reason to disturb anybody."""
        try:
            replace_file(self.path, settings.to_json().encode())
        except OSError as error:
            logger.warning("settings could not be kept in %s: %s", self.path, error)
