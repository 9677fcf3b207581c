"""Results on stdout: JSON for programs, a few aligned lines for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..words import count


def print_result(result: Mapping[str, Any], as_json: bool, shown: Mapping[str, Any] | None = None) -> None:
    """Print a result: one JSON object, or ``name  value`` lines with nested values indented.

    Parameters
    ----------
    result
        All there is to say, for programs.
    as_json
        Whether a program asks.
    shown
        What people see in its place, where that is less: counts instead of long lists. What is empty is left out.
    """
    if as_json:
        print(json.dumps(_plain(result), indent=2, allow_nan=False), flush=True)
    else:
        _print_lines(result if shown is None else {name: value for name, value in shown.items() if value}, "")


def number_of(paths: Sequence[Path], noun: str, where: Path | None = None) -> str:
    """Say how many there are, and in which folder; empty if there are none."""
    return "" if not paths else count(len(paths), noun) + (f" in {where}" if where is not None else "")


def write_json(path: Path, report: Mapping[str, Any], overwrite: bool) -> Path:
    """Write a report as JSON, whole."""
    from ..data.write import place_whole

    def write(place: Path) -> None:
        place.write_text(json.dumps(_plain(report), indent=2, allow_nan=False), encoding="utf-8")

    return place_whole(path, write, overwrite)


def _print_lines(result: Mapping[str, Any], indent: str) -> None:
    width = max((len(name) for name in result), default=0)
    for name, value in result.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}")
            _print_lines(value, indent + "  ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            print(f"{indent}{name}")
            for item in value:
                print(f"{indent}  " + "  ".join(f"{key} {_words(part)}" for key, part in item.items()))
        else:
            print(f"{indent}{name:<{width}}  {_words(value)}")
    sys.stdout.flush()


def _words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    return "-" if value is None else str(value)


def _plain(value: Any) -> Any:
    """Turn a result into what JSON knows: paths become text, numpy values numbers, and what is not a number null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
