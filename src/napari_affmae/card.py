"""What travels with a model besides its weights: statistics, classes, pixel size, history.

A :class:`ModelCard` hangs on every model as ``model.card`` and is written into its file. The network itself never reads it;
the engine applies the statistics, the widgets show the classes.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Literal

from pydantic import Field

from .settings import Settings


class PixelSize(Settings):
    """Size of a pixel along the rows (``y``) and the columns (``x``), in ``unit``."""

    y: Annotated[float, Field(gt=0)]
    x: Annotated[float, Field(gt=0)]
    unit: Literal["nanometer", "micrometer", "millimeter"] = "micrometer"

    def nanometres(self) -> tuple[float, float]:
        """Return ``(y, x)`` in nanometres."""
        factor = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6}[self.unit]
        return self.y * factor, self.x * factor

    def in_words(self) -> str:
        """Return the size for people, for example ``"4.6 nm"`` or ``"1.5 × 1.25 µm"``."""
        y, x = self.nanometres()
        unit, factor = ("nm", 1.0) if max(y, x) < 1000 else ("µm", 1e-3)
        if math.isclose(y, x, rel_tol=1e-3):
            return f"{y * factor:.4g} {unit}"
        return f"{y * factor:.4g} × {x * factor:.4g} {unit}"


class Normalisation(Settings):
    """Robust intensity statistics of a collection of images, one value per channel.

    An image is clipped to ``low..high`` (raw units), then ``mean`` is subtracted and the result divided by ``std``.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


class ClassInfo(Settings):
    """One class: the id that label images use, a name, and a colour as ``#rrggbb``."""

    id: Annotated[int, Field(ge=0)]
    name: str
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class ModelCard(Settings):
    """Everything about a model that is not a weight.

    Attributes
    ----------
    normalisation
        Statistics to apply before the network, or None if the model has seen no data.
    pixel_size
        Pixel size of the training images, if known.
    classes
        The class table of a segmenter; logit ``k`` belongs to ``classes[k]``. Empty for a pretrained network.
    tile
        Side of the training tiles in pixels.
    history
        What was done to the model, oldest first: free JSON-able records (job, data, settings, versions, figures).
    """

    normalisation: Normalisation | None = None
    pixel_size: PixelSize | None = None
    classes: tuple[ClassInfo, ...] = ()
    tile: Annotated[int, Field(gt=0)] | None = None
    history: tuple[dict[str, Any], ...] = ()

    def fingerprint(self) -> str:
        """Return a short text that is another one after every training: each writes its time and its figures into the card."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
