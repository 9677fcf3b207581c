"""Which implementation of each operator runs, and why.

Today every operator has one implementation, written in PyTorch, and this module says so. It is the one place to ask: the
``doctor`` command, the log of a run and the dock all print what it reports, so that nobody has to guess.
"""

from __future__ import annotations

from dataclasses import dataclass

OPERATORS = ("nearest", "cluster_attention", "token_merge", "deformable_attention")

WHY = "the only implementation in this release; runs on every device"


@dataclass(frozen=True)
class OperatorReport:
    """One line of :func:`report`: the operator, the implementation that runs, and the reason."""

    operator: str
    implementation: str
    why: str


def report() -> list[OperatorReport]:
    """Return which implementation runs for each operator."""
    return [OperatorReport(name, "pytorch", WHY) for name in OPERATORS]


def describe() -> str:
    """Return one sentence for people."""
    names = sorted({entry.implementation for entry in report()})
    return f"operators run in {' and '.join(names)}: {report()[0].why}"
