"""Every script here starts: those that need optional libraries and hours are run too seldom to notice a renamed function."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPTS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))
OPTIONAL = ("sklearn", "monai", "matplotlib")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_can_be_imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import it as ``python script`` would, without running ``main``."""
    monkeypatch.syspath_prepend(str(script.parent))
    try:
        runpy.run_path(str(script), run_name="imported")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")
