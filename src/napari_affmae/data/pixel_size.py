"""Pixel sizes as file formats state them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from ..card import PixelSize

SCALE_TOLERANCE = 0.1
"""Relative difference of pixel sizes up to which an image is taken as it is."""

Unit = Literal["nanometer", "micrometer", "millimeter"]

_UNITS: dict[str, tuple[float, Unit]] = {
    **dict.fromkeys(("pm", "picometer", "picometre"), (1e-3, "nanometer")),
    **dict.fromkeys(("å", "angstrom", "ångström"), (0.1, "nanometer")),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), (1.0, "nanometer")),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), (1.0, "micrometer")),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), (1.0, "millimeter")),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), (10.0, "millimeter")),
    **dict.fromkeys(("m", "meter", "metre"), (1e3, "millimeter")),
    "inch": (25.4, "millimeter"),
}

LARGEST_FROM_RESOLUTION = 10.0
"""Micrometres. Resolutions of 72 to 2400 dots per inch are left behind by screens and printers and say nothing about a
specimen, so a coarser pixel is not believed when it comes from a plain resolution tag."""


def pixel_size(y: float, x: float, unit: str) -> PixelSize | None:
    """Return the size of a pixel in one of our units, or None if the numbers or the unit mean nothing."""
    known = _UNITS.get(unit.strip().replace("\\u00B5", "µ").lower())
    if known is None or not (math.isfinite(y) and math.isfinite(x) and y > 0 and x > 0):
        return None
    factor, name = known
    return PixelSize(y=y * factor, x=x * factor, unit=name)


def pixel_size_from_resolution(per_y: float, per_x: float, centimetre: float) -> PixelSize | None:
    """Return the pixel size for a resolution in pixels per unit of ``centimetre`` cm, unless it is one of a printer."""
    if not (math.isfinite(per_y) and math.isfinite(per_x) and per_y > 0 and per_x > 0):
        return None
    y, x = centimetre * 1e4 / per_y, centimetre * 1e4 / per_x
    if max(y, x) >= LARGEST_FROM_RESOLUTION:
        return None
    return PixelSize(y=y, x=x, unit="micrometer")


def same_pixel_size(first: PixelSize, second: PixelSize) -> bool:
    """Whether two pixel sizes agree to a thousandth, whatever their units."""
    pairs = zip(first.nanometres(), second.nanometres(), strict=True)
    return all(math.isclose(a, b, rel_tol=1e-3) for a, b in pairs)


def common_size(sizes: Iterable[PixelSize]) -> PixelSize | None:
    """Return the middle one of pixel sizes if images of all others are taken as they are at that; None if not, or for none."""
    ordered = sorted(sizes, key=PixelSize.nanometres)
    if not ordered:
        return None
    middle = ordered[len(ordered) // 2]
    return None if any(is_other_scale(scale_factors(size, middle)) for size in ordered) else middle


def scale_factors(image: PixelSize, model: PixelSize) -> tuple[float, float]:
    """Return by how much to enlarge the rows and columns of an image to get a model's pixel size."""
    theirs, ours = image.nanometres(), model.nanometres()
    return theirs[0] / ours[0], theirs[1] / ours[1]


def is_other_scale(factors: Iterable[float]) -> bool:
    """Whether an image is to be rescaled by these factors, the quotients of its pixel size and a model's."""
    return not all(1 / (1 + SCALE_TOLERANCE) <= factor <= 1 + SCALE_TOLERANCE for factor in factors)
