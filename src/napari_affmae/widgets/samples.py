"""Sample data that needs no download: synthetic micrographs with exact labels, and microscopy that scikit-image ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skimage import data

from ..card import PixelSize
from ..data.synthetic import SYNTHETIC_CLASSES, SYNTHETIC_PIXEL_SIZE, synthetic_em
from .overlays import class_colors
from .placement import Placement

if TYPE_CHECKING:
    from napari.types import LayerData

SIZE = 512


def synthetic_electron_micrograph() -> list[LayerData]:
    """Return a drawn section of neural tissue and its exact classes as a Labels layer."""
    image, labels = synthetic_em(SIZE, seed=0)
    placement = Placement.of_pixels(SYNTHETIC_PIXEL_SIZE).as_keywords()
    exact: dict[str, Any] = {
        "name": "synthetic EM · exact labels",
        "opacity": 0.4,
        "visible": False,
        "colormap": class_colors(SYNTHETIC_CLASSES),
        **placement,
    }
    return [(image, {"name": "synthetic EM", **placement}, "image"), (labels, exact, "labels")]


def histology() -> list[LayerData]:
    """Return a section of human colon, immunohistochemistry with a DAB stain for FHL2 (scikit-image, RGB)."""
    return [(data.immunohistochemistry(), {"name": "histology", "rgb": True}, "image")]  # type: ignore[no-untyped-call]


def single_cell() -> list[LayerData]:
    """Return a cell floating in saline, quantitative phase from a digital hologram, 0.107 µm per pixel (scikit-image)."""
    placement = Placement.of_pixels(PixelSize(y=0.107, x=0.107, unit="micrometer")).as_keywords()
    return [(data.cell(), {"name": "cell", **placement}, "image")]  # type: ignore[no-untyped-call]
