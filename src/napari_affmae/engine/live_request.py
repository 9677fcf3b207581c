"""What a live session is asked to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..data.label_images import LabelledImage
from ..data.records import ImageRecord
from .live_closed import Stored
from .live_tiles import Region


@dataclass(frozen=True, eq=False)
class LiveRequest:
    """What a round is asked to do.

    Attributes
    ----------
    generation
        Its number; a request with a higher one makes it stale.
    examples
        Every image with paint, with all of its paint. An array that was handed in before must not have been changed since.
    image
        The image to predict, or None to train only.
    visible
        The part of it that is predicted first; None for all of it.
    closed
        Images that are not open, with their paint on disk. It is taken up after the visible prediction, image by image.
    asked
        When the user was done, as ``time.perf_counter`` counts, for the seconds that a round reports.
    """

    generation: int
    examples: Sequence[LabelledImage]
    image: ImageRecord | None = None
    visible: Region | None = None
    closed: Sequence[tuple[ImageRecord, Stored]] = ()
    asked: float = field(default_factory=time.perf_counter)
