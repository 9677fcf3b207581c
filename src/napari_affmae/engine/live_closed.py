"""The paint of images that are not open: live training takes it up image by image, while nobody paints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..data.label_images import LabelledImage
from ..data.records import ImageRecord


class Stored(Protocol):
    """Paint on disk; what is equal is the same paint."""

    def read(self) -> npt.NDArray[np.uint8]:
        """Return the paint ``[H, W]``."""


class ClosedPaint:
    """Which closed images are taken up, and which wait for it.

    Attributes
    ----------
    examples
        The images that are taken up, with their paint.
    """

    def __init__(self) -> None:
        self._wanted: dict[str, tuple[ImageRecord, Stored]] = {}
        self._taken: dict[str, LabelledImage] = {}
        self._unusable: set[str] = set()

    def want(self, closed: Sequence[tuple[ImageRecord, Stored]], opened: Collection[str]) -> None:
        """Say which images there are; what was taken up stays if its paint is the same and the image was not opened."""
        wanted = {record.name: (record, stored) for record, stored in closed if record.name not in opened}
        same = {name for name, (_, stored) in wanted.items() if name in self._wanted and self._wanted[name][1] == stored}
        self._wanted = wanted
        self._taken = {name: example for name, example in self._taken.items() if name in same}
        self._unusable &= same

    @property
    def examples(self) -> list[LabelledImage]:
        """See the class."""
        return list(self._taken.values())

    @property
    def waiting(self) -> list[str]:
        """Names of the images that are still to be taken up."""
        return [name for name in self._wanted if name not in self._taken and name not in self._unusable]

    @property
    def count(self) -> int:
        """Number of images, taken up or not."""
        return len(self._wanted) - len(self._unusable)

    def take(self, name: str) -> None:
        """Take up an image; its paint is read."""
        record, stored = self._wanted[name]
        self._taken[name] = LabelledImage(record, stored.read())

    def put_back(self, name: str) -> None:
        """Let an image wait again."""
        self._taken.pop(name, None)

    def put_all_back(self) -> None:
        """Let all images wait again: the network has changed."""
        self._taken = {}

    def leave_out(self, name: str) -> None:
        """Do without an image that cannot be used."""
        self.put_back(name)
        self._unusable.add(name)
