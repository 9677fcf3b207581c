"""What is measured: data, one entry per line of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..model_config import PresetName

Kind = Literal["training", "segmentation", "first step", "largest batch"]


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes
    ----------
    name
        What ``--case`` calls it.
    kind
        What is measured.
    preset, side, batch
        Network, side of the images in pixels, images per step.
    device
        ``"cuda"`` or ``"cpu"``, where it makes sense.
    gib
        Memory that the card pretends to have, for ``"largest batch"``.
    """

    name: str
    kind: Kind
    preset: PresetName
    side: int
    batch: int
    device: Literal["cuda", "cpu"] = "cuda"
    gib: int | None = None


CASES = (
    Case("small-512", "training", "small", 512, 16),
    Case("small-1024", "training", "small", 1024, 4),
    Case("base-512", "training", "base", 512, 16),
    Case("segment-512", "segmentation", "small", 512, 1),
    Case("first-step", "first step", "small", 512, 16),
    *(
        Case(f"{preset}-{side}-in-{gib}-gib", "largest batch", preset, side, 1, gib=gib)
        for gib in (8, 12)
        for preset in ("small", "base")
        for side in (512, 1024)
    ),
    Case("cpu-segment", "segmentation", "tiny", 512, 1, device="cpu"),
    Case("cpu-train", "training", "tiny", 256, 4, device="cpu"),
)
"""All cases, in the order in which they run."""
