"""From what was typed to settings: only what is given replaces a default, or the settings of the run that is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from ..config import Budget, Settings
from ..errors import StorageError

SomeSettings = TypeVar("SomeSettings", bound=Settings)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were typed, those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def given_budget(steps: int | None, epochs: float | None, minutes: float | None) -> dict[str, Any]:
    """Return ``{"budget": ...}`` if one was typed, else nothing."""
    typed = given(steps=steps, epochs=epochs, minutes=minutes)
    return {"budget": Budget(**typed)} if typed else {}


def settings_of_run(run: Path, kind: type[SomeSettings]) -> SomeSettings:
    """Read the settings that a run was started with.

    Raises
    ------
    StorageError
        If there is no run in the folder, or its settings cannot be read.
    """
    path = run / "config.json"
    if not path.is_file():
        raise StorageError(f"no run to resume in {run}: expected a file config.json; start it without --resume")
    try:
        return kind(**json.loads(path.read_bytes())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} cannot be read ({error}); start a new run in another folder") from error
