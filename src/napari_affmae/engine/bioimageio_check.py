"""The check that a package runs elsewhere: the Zoo's own test, in a process that can import neither this package nor napari."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ..control import JobControl
from ..errors import AffmaeError

ABSENT = ("napari_affmae", "affmae_kernels", "napari", "qtpy", "PyQt6", "PyQt5", "PySide6", "magicgui")
"""Modules that the other process is told not to have."""

_LONGEST = 900.0
"""Seconds after which a check is given up."""

_SCRIPT = """
import json, sys
package, report, device, *absent = sys.argv[1:]
for name in absent:
    sys.modules[name] = None
from bioimageio.core import test_model
summary = test_model(package, devices=[device])
errors = [" ".join(error.msg.split()) for detail in summary.details for error in detail.errors]
warnings = [" ".join(warning.msg.split()) for detail in summary.details for warning in detail.warnings]
with open(report, "w", encoding="utf-8") as file:
    json.dump({"status": summary.status, "errors": errors, "warnings": warnings}, file)
"""


@dataclass(frozen=True)
class CheckResult:
    """What ``bioimageio.core`` says about a package.

    Attributes
    ----------
    passed
        Whether it could be loaded and run, and its output is what the package says.
    errors, remarks
        What it complains about, and what it remarks, in its own words.
    seconds
        How long it took.
    """

    passed: bool
    errors: tuple[str, ...]
    remarks: tuple[str, ...]
    seconds: float


def check_package(package: Path, control: JobControl) -> CheckResult | None:
    """Run the Zoo's test on a package; None if it was stopped.

    Raises
    ------
    AffmaeError
        If the test itself could not be run.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report, complaints = Path(folder, "report.json"), Path(folder, "stderr.txt")
        # Isolated: neither the working directory nor PYTHONPATH may bring this package in.
        command = [sys.executable, "-I", "-c", _SCRIPT, str(package.resolve()), str(report), "cpu", *ABSENT]
        with complaints.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd=folder)
            try:
                if not _ended(process, control, begun + _LONGEST):
                    return None
            finally:
                process.kill()
                process.wait()
        if not report.is_file():
            last = complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            why = " ".join(last) or f"exit code {process.returncode}"
            raise AffmaeError(f"bioimageio.core could not run its test ({why}); export without the check (--no-check)")
        found = json.loads(report.read_bytes())
    seconds = time.perf_counter() - begun
    return CheckResult(found["status"] == "passed", tuple(found["errors"]), tuple(found["warnings"]), round(seconds, 1))


def _ended(process: subprocess.Popen[bytes], control: JobControl, deadline: float) -> bool:
    """Wait for a process; False if it should not be waited for any more."""
    while True:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if control.stop_requested:
                return False
            if time.perf_counter() > deadline:
                raise AffmaeError(
                    f"bioimageio.core did not end its test within {_LONGEST:.0f} s; export without the check (--no-check)"
                ) from None
        else:
            return True
