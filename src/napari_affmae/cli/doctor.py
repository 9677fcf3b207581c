"""``napari-affmae doctor``: is everything here that a job needs?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .options import AsJson, Device
from .output import print_result

if TYPE_CHECKING:
    from ..engine.doctor import Finding

STYLES = {"fine": "green", "missing": "yellow", "broken": "bold red"}


def doctor(
    *,
    device: Device = None,
    folder: Annotated[Path | None, Parameter(help="Where runs will be written. [default: the current folder]")] = None,
    json: AsJson = False,
) -> int:
    """Say what is installed, which device and kernels will run and why, and what to do about what is broken."""
    from ..engine.doctor import examine, is_broken

    findings = examine(device or "auto", folder)
    broken = is_broken(findings)
    if json:
        print_result({"ok": not broken, "findings": [asdict(finding) for finding in findings]}, as_json=True)
    else:
        _print_table(findings)
        print("Something is broken; see the red lines." if broken else "All is well.")
    return 1 if broken else 0


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    topic = ""
    for finding in findings:
        advice = f"\n→ {finding.advice}" if finding.advice else ""
        table.add_row(
            Text(finding.topic if finding.topic != topic else "", "bold"),
            finding.name,
            Text(f"{finding.value}{advice}", STYLES[finding.state] if finding.state != "fine" else ""),
        )
        topic = finding.topic
    Console().print(table)
