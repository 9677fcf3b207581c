"""``napari-affmae card``: what a model is, what it was trained on, how good it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..model_header import read_card
from ..model_report import ModelReport, as_json, report
from ..report_text import as_text
from ..words import count, some_names
from .options import AsJson, Channels, Files, Model
from .output import print_result

if TYPE_CHECKING:
    from ..data.records import ImageRecord


def card(
    model: Model,
    /,
    *,
    images: Annotated[
        Path | None, Parameter(help="Say which of these images, a folder or a file, the model was trained on.")
    ] = None,
    files: Files = None,
    channels: Channels = None,
    json: AsJson = False,
) -> None:
    """Show a model's card: classes, data with content hashes, settings, versions, loss curve, score.

    With ``--images`` it compares pixel values, so that renamed and converted copies are found as well: a score on images that a
    model was trained on says little. Without ``--channels`` it looks at all channels of an image, and at those that the model
    was trained on.
    """
    found = report(model)
    seen = None if images is None else compare(found, images, files, channels)
    if json:
        print_result({**as_json(found, read_card(found.path)), **({} if seen is None else {"images": seen})}, True)
        return
    print(as_text(found))
    if seen is not None:
        print()
        print_result(seen, False, in_words(seen))


def in_words(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what :func:`compare` found in counts, with the first names, and what it does not tell."""
    unknown = "" if seen["comparable"] else "the model does not say of all its trainings which images they read"
    return {
        "of": count(seen["images"], "image"),
        "trained on": {job: _counted(names) for job, names in seen["trained_on"].items()},
        "new to it": _counted(seen["new"]),
        "but": unknown,
    }


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)}: {some_names(names)}" if names else "none"


def compare(found: ModelReport, images: Path, files: str | None, channels: list[int] | None) -> dict[str, Any]:
    """Return the names of the images that a model was trained on, by job, and of those that are new to it."""
    from ..data.scan import scan
    from .labelled import say_skipped

    collection = scan(images, files, channels)
    say_skipped(collection.skipped)
    choices = set() if channels else {training.channels for training in found.trainings if training.channels is not None}
    hashes = {record.name: set(_hashes(record, choices)) for record in collection.records}
    known: dict[str, set[str]] = {}
    for training in found.trainings:
        known.setdefault(training.job, set()).update(training.hashes)
    everything = set().union(*known.values())
    seen = {job: [name for name, own in hashes.items() if own & those] for job, those in known.items()}
    return {
        "images": len(hashes),
        "trained_on": seen,
        "new": [name for name, own in hashes.items() if not own & everything],
        "comparable": all(training.hashes for training in found.trainings) and bool(found.trainings),
    }


def _hashes(record: ImageRecord, choices: Iterable[tuple[int, ...]]) -> Iterator[str]:
    """Yield the fingerprints of an image as it was found, and of each choice of its channels that it has."""
    from ..data.fingerprint import fingerprint

    yield record.fingerprint or fingerprint(record.load())
    for chosen in choices:
        if max(chosen) < record.channels:
            yield fingerprint(replace(record, channels=len(chosen), chosen_channels=chosen).load())
