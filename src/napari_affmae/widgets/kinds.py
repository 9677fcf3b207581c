"""What our layers show, and the keys that say so in their metadata."""

from __future__ import annotations

from enum import StrEnum

KIND = "napari_affmae_kind"
GROUP = "napari_affmae_group"
PROJECT = "napari_affmae_project"
"""Keys in ``layer.metadata`` of an overlay: what it is, the name of its image, and the project folder that keeps it, if any."""

PREVIEW_GROUP = "pretraining"
"""Stands in the place of an image's name on the overlays of a pretraining run."""


class Kind(StrEnum):
    """What an overlay shows; the order is the order in the layer list, bottom to top."""

    MASKED = "masked input"
    RECONSTRUCTION = "reconstruction"
    PCA = "PCA"
    DENSITY = "token density"
    MERGE_MAP = "merge map"
    SEGMENTATION = "segmentation"
    REFINED = "refined"
    INSTANCES = "objects"
    PROBABILITY = "prob."
    UNCERTAINTY = "uncertainty"
    TOKENS = "tokens"
    PAINT = "paint"
    SUGGESTIONS = "suggestions"
    OUTLINE = "outline"


CHANGED = ("paint", "data")
"""Events of a Labels layer that say that its data changed: a stroke has ended, or the array was replaced."""

REDRAWN = ("set_data", "labels_update")
"""Events that come with every other change, as napari has none of their own for them: undo and redo, an edit by a program
(whose ``paint`` comes before the data change) and ``refresh``. Scrolling through a stack causes them as well."""

KEPT = (Kind.PAINT, Kind.SEGMENTATION)
"""Overlays that the project folder keeps."""
PREDICTIONS = (Kind.REFINED, Kind.SEGMENTATION)
"""Overlays that show the class of every pixel; where both are seen, the first one counts."""
PAINTED, PREDICTED = 1.0, 0.35
"""Opacities. Strokes have the colour of their class, as what is predicted has: one is seen on the other if that is faint."""
LOOKS = (Kind.PCA, Kind.DENSITY, Kind.MERGE_MAP, Kind.TOKENS)
"""Overlays that look inside the network. One is shown at a time, without the paint and the segmentation."""
