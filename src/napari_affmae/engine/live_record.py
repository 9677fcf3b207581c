"""What a live session leaves in the history of its model: the loss of each round, and what it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..config import LiveConfig
from ..data.fingerprint import fingerprint, label_fingerprint
from ..data.label_images import LabelledImage
from ..errors import DataError
from .curve import Curve
from .provenance import describe_data, describe_run

_MOST_HASHED = 1 << 26
"""Pixels up to which an image with paint is read whole to hash it for the model's history."""


class LiveRecord:
    """Grows with the session; one entry of the history, however often the model is saved."""

    def __init__(self) -> None:
        self.rounds = 0
        self._curve = Curve()
        self._hashes: dict[str, str] = {}

    def round(self, loss: float) -> None:
        """Count a round that ended with this loss on all paint."""
        self.rounds += 1
        self._curve.add(self.rounds, loss)

    def refined(self, loss: float) -> None:
        """Note the loss to which the network was refined after the last round."""
        self._curve.add(self.rounds, loss)

    def describe(self, examples: Sequence[LabelledImage], config: LiveConfig, painted: Sequence[int]) -> dict[str, Any]:
        """Return the entry, as JSON values.

        Parameters
        ----------
        examples
            The images with paint.
        config
            The session's settings.
        painted
            Painted pixels of each class.
        """
        figures = {"rounds": self.rounds, "painted_pixels": list(painted)}
        labels = [label_fingerprint(example.labels) for example in examples]
        data = describe_data([example.record for example in examples], self._fingerprints(examples), labels)
        record = describe_run("live", [example.name for example in examples], config, figures, data)
        return {**record, "curve": {**self._curve.record(), "unit": "round"}}

    def _fingerprints(self, examples: Sequence[LabelledImage]) -> list[str]:
        """Return the fingerprints of the images; those that are too large to hold are read part by part only."""
        records = [example.record for example in examples if example.record.height * example.record.width <= _MOST_HASHED]
        for record in records:
            if record.name not in self._hashes:
                with suppress(DataError):  # an image that vanished is no reason to lose the model
                    self._hashes[record.name] = fingerprint(record.read())
        return [self._hashes[record.name] for record in records if record.name in self._hashes]
