"""The file of results: one JSON object a line, added as soon as it is known, and readable whatever happened meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a file, none if it is not there; a line that was cut when a process died is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def append_line(path: Path, line: Line) -> None:
    """Add a line in one write, so that processes that share the file do not mix theirs; after a cut line, on a new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("ab", buffering=0) as file:
        file.write((("\n" if cut else "") + json.dumps(line) + "\n").encode())
