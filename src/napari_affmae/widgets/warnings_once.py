"""Warnings of a job on many images: said once, with the image that they are of, and counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..events import Notice
from ..words import count, sentence


@dataclass(frozen=True)
class NoticeAgain:
    """Another image of a job is warned of like one before it, but for numbers."""


class OncePerJob:
    """Lets one warning of a kind through."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def of_image(self, name: str, events: Iterable[object]) -> Iterator[object]:
        """Yield the events of one image, named in the warnings; those that were said of another one become fewer words."""
        for event in events:
            if not isinstance(event, Notice):
                yield event
                continue
            message = event.message.removeprefix(f"{name}: ")
            kind = re.sub(r"\d+(\.\d+)?", "", message)
            is_new = kind not in self._said
            self._said.add(kind)
            yield replace(event, message=f"{name}: {message}") if is_new else NoticeAgain()


class Warned:
    """What a job has warned of, for the line that stays: a warning that has gone by may say why the result is no good."""

    def __init__(self) -> None:
        self._first = ""
        self._again = 0

    def take(self, event: Notice | NoticeAgain) -> None:
        """Note a warning."""
        if isinstance(event, NoticeAgain):
            self._again += 1
        elif not self._first:
            self._first = sentence(event.message)

    def in_words(self) -> str:
        """Return the first warning and of how many images it was said; empty if there was none."""
        return f"{self._first} So it is with {count(self._again + 1, 'image')}." if self._again else self._first
