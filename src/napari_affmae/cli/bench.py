"""``napari-affmae bench``: how fast, and how small, is a step on this machine?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..errors import ConfigError
from .options import AsJson
from .output import print_result, write_json

if TYPE_CHECKING:
    from ..bench.cases import Case

SHOWN_KERNELS = 10
NAME = 40
"""Letters of a kernel's name that are shown; those of cuBLAS are long. The file has all of both."""


def bench(
    *,
    case: Annotated[
        tuple[str, ...] | None,
        Parameter(negative="", help="Measure only this case; may be given several times. [default: all]"),
    ] = None,
    out: Annotated[Path | None, Parameter(help="Write the figures to this JSON file, too, after each case.")] = None,
    json: AsJson = False,
) -> int:
    """Measure steps on this machine against a compiled ViT-MAE of about equal parameters; several minutes on a graphics card.

    The operators are checked against float64 first; no figure is printed if one is wrong.
    """
    import torch

    from ..bench.cases import CASES
    from ..bench.run import check_operators, describe_machine, measure
    from ..engine.device import device_errors, resolve_device

    chosen = _chosen(case)
    device = resolve_device("auto")
    here = [entry for entry in chosen if entry.device == "cpu" or device.type == "cuda"]
    if not here:
        on_cpu = " ".join(f"--case {entry.name}" for entry in CASES if entry.device == "cpu")
        raise ConfigError(f"none of these cases can be measured here, they need a CUDA device; for a CPU there is {on_cpu}")
    places = [torch.device(kind) for kind in sorted({entry.device for entry in here})]
    machine: dict[str, dict[str, str]] = {}
    for place in places:
        with device_errors(place, "choose other cases"):
            check_operators(place)
            machine[place.type] = describe_machine(place)
    lines: list[dict[str, Any]] = []
    for entry in here:
        print(f"measuring {entry.name} …", file=sys.stderr, flush=True)
        lines.append(measure(entry))
        if out is not None:
            write_json(out, {"machine": machine, "lines": lines}, overwrite=True)
    if json:
        print_result({"machine": machine, "lines": lines}, True)
        return 0
    _print(machine, lines)
    if len(here) < len(chosen):
        print(f"{len(chosen) - len(here)} more cases need a CUDA device.")
    return 0


def _chosen(names: tuple[str, ...] | None) -> list[Case]:
    from ..bench.cases import CASES

    by_name = {entry.name: entry for entry in CASES}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise ConfigError(f"unknown case {unknown[0]!r}: choose from {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else list(CASES)


def _print(machine: dict[str, dict[str, str]], lines: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    for facts in machine.values():
        print("; ".join(facts.values()))
    table = Table("case", "ours", "ViT-MAE", "ours / ViT-MAE", box=None, padding=(0, 3, 0, 0))
    for line in lines:
        table.add_row(
            line["case"], _figures(line, "ours"), _figures(line, "vit"), f"{line['ratio']:.2f}" if "ratio" in line else ""
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for line in lines:
        if "ours_kernels" in line:
            longest = list(line["ours_kernels"].items())[:SHOWN_KERNELS]
            print(f"{line['case']}, longest kernels: " + ", ".join(f"{name[:NAME]} {spent:.1f} ms" for name, spent in longest))


def _figures(line: dict[str, Any], who: str) -> str:
    if "skipped" in line:
        return str(line["skipped"])
    if line["kind"] == "first step":
        return f"{line['cold_s']:.1f} s, {line['warm_s']:.1f} s with kernels built before" if who == "ours" else ""
    if line["kind"] == "largest batch":
        return f"{line[f'{who}_images']} images" + ("" if who == "ours" else ", not compiled")
    if f"{who}_ms" not in line:
        return ""
    words = [f"{line[f'{who}_ms']:.1f} ms"]
    if line.get(f"{who}_gib") is not None:
        words.append(f"{line[f'{who}_gib']:.2f} GiB")
    if f"{who}_idle" in line:
        words.append(f"{line[f'{who}_idle']:.1%} idle")
    if f"{who}_gflop" in line:
        words.append(f"{line[f'{who}_gflop']:.0f} GFLOP per image")
    return ", ".join(words)
