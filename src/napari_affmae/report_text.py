"""A model's report as lines for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .curve_ends import curve_ends
from .model_report import ModelReport

_BARS = "▁▂▃▄▅▆▇█"


def as_text(model: ModelReport) -> str:
    """Return the report as lines for a terminal."""
    lines = [model.title, *_table(model.facts, "  ")]
    for number, training in enumerate(model.trainings, start=1):
        lines += ["", f"{number}  {training.title}", *_table(training.facts, "   ")]
        if training.steps:
            first, last = curve_ends(training.losses)
            ends = f"{first:.3g} → {last:.3g}"
            lines += _table([("loss", f"{sparkline(training.losses)}  {ends}")], "   ")
        if training.score is not None:
            lines += _table([("score", training.score.in_words())], "   ")
            width = max((len(name) for name in training.score.iou), default=0)
            for name, value in training.score.iou.items():
                lines.append(f"{'':15}{name:<{width}}  {value:.2f}  {'█' * round(20 * value)}")
    if not model.trainings:
        lines += ["", "It does not say what was done to it."]
    return "\n".join(lines)


def as_markdown(model: ModelReport) -> str:
    """Return the report as sections of a Markdown document, below a heading of the first level."""
    lines = [f"- **{name}**: {value}" for name, value in model.facts]
    for training in model.trainings:
        lines += ["", f"## {training.title}", "", *(f"- **{name}**: {value}" for name, value in training.facts)]
        if training.steps:
            first, last = f"{training.losses[0]:.3g} at {training.unit} {training.steps[0]}", f"{training.losses[-1]:.3g}"
            lines.append(f"- **loss**: {first}, {last} at the end")
    lines += ["", "## Validation", ""]
    if model.score is None:
        lines.append("No score on labels kept back was measured in training: compare its output with labels of your own.")
    else:
        lines += [f"{model.score.in_words()}.", "", "| class | IoU |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in model.score.iou.items()]
    return "\n".join(lines)


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Return a row of bars as high as the values, at most ``width`` of them."""
    points = min(width, len(values))
    chosen = [values[round(place * (len(values) - 1) / max(1, points - 1))] for place in range(points)]
    low, high = min(chosen), max(chosen)
    heights = [(value - low) / (high - low) if high > low else 0.0 for value in chosen]
    return "".join(_BARS[round(height * (len(_BARS) - 1))] for height in heights)


def _table(facts: Iterable[tuple[str, str]], indent: str) -> list[str]:
    return [f"{indent}{name:<13}{value}" for name, value in facts]
