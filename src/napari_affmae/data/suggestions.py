"""Places to paint: what the search for them finds, and a project keeps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..settings import Settings

_Part = Annotated[float, Field(ge=0, le=1)]


class Place(Settings):
    """A place to paint.

    Attributes
    ----------
    image
        Name of the image.
    row, column
        Its middle in pixels.
    uncertainty
        Mean over the place, 0 to 1.
    unlike
        How unlike it is to what is painted and to the places before it, 0 to 1; 1 if there is neither.
    score
        Their product: what places are chosen by.
    """

    image: str
    row: Annotated[int, Field(ge=0)]
    column: Annotated[int, Field(ge=0)]
    uncertainty: _Part
    unlike: _Part
    score: _Part


class Suggestions(Settings):
    """Places in the order in which they are worth a stroke.

    Attributes
    ----------
    places
        None at all if the prediction is certain wherever nothing is painted.
    side
        Side of a place in pixels.
    """

    places: tuple[Place, ...]
    side: Annotated[int, Field(gt=0)]


class KeptSuggestions(Settings):
    """Suggestions and whose they are.

    Attributes
    ----------
    suggestions
        The places.
    model
        File of the network that was unsure there, relative to the project if it lies in it.
    fingerprint
        Of that network's card, which tells one training from another; see :meth:`~napari_affmae.card.ModelCard.fingerprint`.
    """

    suggestions: Suggestions
    model: str
    fingerprint: str
