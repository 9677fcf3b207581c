"""Refinement of a segmentation on demand: no specks, no holes, and touching objects told apart.

Objects are regions of one class whose pixels touch along an edge; the background class is made of no objects. Everything here
takes and returns whole label images ``[H, W]`` and leaves its input alone. Doing it twice is doing it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from ..card import ClassInfo
from ..config import Refinement
from ..errors import ConfigError

Labels = npt.NDArray[Any]
Certainty = npt.NDArray[np.uint8]

_CERTAIN = 255
"""Stands for a probability of 1."""

_NO_VALUE = -1
"""A value that no class has; every region counts then."""

_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class Instance:
    """One object.

    Attributes
    ----------
    number
        Its value in the image of instances, from 1.
    class_id
        Its class.
    pixels
        Its area.
    row, column
        Its centre in pixels.
    """

    number: int
    class_id: int
    pixels: int
    row: float
    column: float


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined segmentation.

    Attributes
    ----------
    labels
        ``[H, W]`` ids of the class table.
    instances
        int32 ``[H, W]``: 0 for the background, 1..n for objects; None if they were not asked for.
    table
        The objects in order of their number.
    """

    labels: Labels
    instances: npt.NDArray[np.int32] | None = None
    table: tuple[Instance, ...] = ()


def refine(
    labels: Labels,
    classes: Sequence[ClassInfo],
    settings: Refinement,
    certainty: Certainty | None = None,
) -> Refined:
    """Refine a segmentation.

    Parameters
    ----------
    labels
        ``[H, W]`` ids of the class table.
    classes
        The class table.
    settings
        What to do, and with which sizes in pixels.
    certainty
        What :func:`certainty_of` says of ``labels``; it helps to find where touching objects part. None goes by shape alone.

    Raises
    ------
    ConfigError
        If the settings name a background that is no class.
    """
    background = background_of(classes, settings.background)
    predicted = labels
    labels = fill_holes(remove_specks(labels, settings.specks, background), settings.holes, background)
    if not settings.instances:
        return Refined(labels)
    if certainty is not None:
        # The more of a class that was changed into another one, the less of that: of two classes, exactly so.
        certainty = np.where(labels == predicted, certainty, _CERTAIN - certainty)
    instances = np.zeros(labels.shape, np.int32)
    count = 0
    for class_id in [info.id for info in classes if info.id != background]:
        found = separate(labels == class_id, certainty, settings.split)
        np.add(found, count, out=instances, where=found > 0)
        count += int(found.max(initial=0))
    return Refined(labels, instances, measure(instances, labels))


def background_of(classes: Sequence[ClassInfo], name: str | None = None) -> int:
    """Return the id of the background: the class of this name, or the one called so, or the first of the table.

    Raises
    ------
    ConfigError
        If there is no class of this name.
    """
    wanted = "background" if name is None else name
    for info in classes:
        if info.name.lower() == wanted.lower():
            return info.id
    if name is not None:
        raise ConfigError(f"there is no class {name!r} to be the background; the classes are {_listed(classes)}")
    return classes[0].id


def remove_specks(labels: Labels, smallest: int, background: int) -> Labels:
    """Give objects of fewer than ``smallest`` pixels to what surrounds them, pixel by pixel from their edge inwards.

    An image that holds nothing but specks stays as it is.
    """
    regions, values = _regions(labels)
    speck = (np.bincount(regions.ravel(), minlength=len(values)) < smallest) & (values != background)
    speck[0] = False
    if not speck.any() or speck[1:].all():
        return labels.copy()
    gone = speck[regions]
    # Flooding starts in the pixels around the specks and stays connected to them, so that no new specks come about.
    around = ndimage.binary_dilation(gone, _CROSS)
    seeds = np.where(around & ~gone, regions, 0)
    owner = watershed(np.zeros(labels.shape, np.uint8), seeds, mask=around)
    return np.where(gone, values[owner], labels).astype(labels.dtype)


def fill_holes(labels: Labels, largest: int, background: int) -> Labels:
    """Fill holes of at most ``largest`` pixels: background inside one class, away from the edge of the image."""
    holes = label(labels == background, connectivity=1)
    sizes = np.bincount(holes.ravel())
    fits = sizes <= largest
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        fits[edge] = False
    fits[0] = False
    if not fits.any():
        return labels.copy()
    lowest, highest = _neighbours(holes, labels, len(sizes))
    fits &= lowest == highest
    filled = fits[holes]
    return np.where(filled, lowest[holes], labels).astype(labels.dtype)


def certainty_of(probabilities: npt.NDArray[np.float32]) -> Certainty:
    """Return the probability ``[H, W]`` of the class that each pixel is given, 0 to 255, of those of all ``[K, H, W]``.

    Whole numbers, as they are kept with a project: what is read back tells the same objects apart.
    """
    certainty: Certainty = np.rint(probabilities.max(axis=0) * _CERTAIN).astype(np.uint8)
    return certainty


def separate(mask: npt.NDArray[np.bool_], certainty: Certainty | None, depth: float) -> npt.NDArray[np.int32]:
    """Give each object of a mask a number, those that touch apart.

    A watershed on the distance to the edge times the certainty. Two objects are told apart where the ridge between them
    lies at least ``depth`` below both their summits: for sharp shapes, where the neck is ``2 · depth`` pixels narrower.

    Parameters
    ----------
    mask
        ``[H, W]``.
    certainty
        ``[H, W]``, 0 to 255; None goes by shape alone.
    depth
        In pixels; 0 takes objects that touch as one.

    Returns
    -------
    int32 ``[H, W]``
        0 outside, 1..n inside; every pixel of the mask belongs to an object.
    """
    regions: npt.NDArray[np.int32] = label(mask, connectivity=1).astype(np.int32)
    if depth <= 0 or not mask.any():
        return regions
    height = ndimage.distance_transform_edt(mask) if not mask.all() else np.ones(mask.shape)
    if certainty is not None:
        height = height * (certainty / _CERTAIN)
    lowered = reconstruction(height - depth, height)
    summits = label(np.where(local_maxima(lowered) & mask, regions, 0), connectivity=2)
    # Flat objects drown with the background and have no summit of their own.
    with_summit = np.zeros(int(regions.max()) + 1, bool)
    with_summit[regions[summits > 0]] = True
    drowned = mask & ~with_summit[regions]
    seeds = np.where(drowned, regions + int(summits.max()), summits)
    return _consecutive(watershed(-height, seeds, mask=mask))


def measure(instances: npt.NDArray[np.int32], labels: Labels) -> tuple[Instance, ...]:
    """Return class, area and centre of every instance, in order of their numbers 1..n."""
    pixels = np.bincount(instances.ravel())
    # Every pixel of an object has the same class, whichever is written last.
    class_ids = np.zeros(len(pixels), np.int64)
    class_ids[instances.ravel()] = labels.ravel()
    centres = [
        np.bincount(instances.ravel(), weights=np.broadcast_to(places, instances.shape).ravel()) / np.maximum(pixels, 1)
        for places in np.ogrid[: instances.shape[0], : instances.shape[1]]
    ]
    return tuple(
        Instance(number, int(class_ids[number]), int(pixels[number]), float(centres[0][number]), float(centres[1][number]))
        for number in range(1, len(pixels))
    )


def _regions(labels: Labels) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """Give the regions of equal value numbers from 1; return them and the value of each number."""
    regions = label(labels.astype(np.int64), background=_NO_VALUE, connectivity=1).astype(np.int32)
    values = np.zeros(int(regions.max(initial=0)) + 1, labels.dtype)
    values[regions.ravel()] = labels.ravel()
    return regions, values


def _neighbours(regions: npt.NDArray[Any], labels: Labels, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the least and the greatest label next to each region."""
    lowest, highest = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    for axis in (0, 1):
        before, after = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        for here, there in ((before, after), (after, before)):
            border = (regions[here] > 0) & (regions[there] == 0)
            inside, outside = regions[here][border], labels[there][border].astype(np.int64)
            np.minimum.at(lowest, inside, outside)
            np.maximum.at(highest, inside, outside)
    return lowest, highest


def _consecutive(numbers: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Close the gaps in numbers, 0 staying 0."""
    present = np.bincount(numbers.ravel()) > 0
    present[0] = False
    renumbered: npt.NDArray[np.int32] = (np.cumsum(present) * present).astype(np.int32)[numbers]
    return renumbered


def _listed(classes: Sequence[ClassInfo]) -> str:
    return ", ".join(info.name for info in classes)
