"""Synthetic electron micrographs with exact labels: the demo's data and the tests' ground truth.

Each image imitates a thin section of nervous tissue at about 4 nm per pixel: neurites of many sizes separated by dark
membranes, mitochondria with cristae, vesicles, microtubules, uneven staining and noise. Features have a fixed size in pixels,
so a larger image shows more tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from ..card import ClassInfo, PixelSize
from .records import ImageCollection
from .scan import collection_from_arrays
from .smooth_noise import Field, smooth_noise

CYTOPLASM, MEMBRANE, MITOCHONDRION = 0, 1, 2

SYNTHETIC_CLASSES = (
    ClassInfo(id=CYTOPLASM, name="cytoplasm", color="#0072b2"),
    ClassInfo(id=MEMBRANE, name="membrane", color="#e69f00"),
    ClassInfo(id=MITOCHONDRION, name="mitochondrion", color="#cc79a7"),
)
"""The classes of dense labels."""

SYNTHETIC_PAINT = tuple(info.replace(id=info.id + 1) for info in SYNTHETIC_CLASSES)
"""The same classes as :func:`~napari_affmae.data.scribbles.scribbles` paints them: ids from 1, since 0 is not labelled."""

SYNTHETIC_PIXEL_SIZE = PixelSize(y=4, x=4, unit="nanometer")


def synthetic_em(size: int | tuple[int, int] = 512, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a micrograph; the same seed gives the same one.

    Parameters
    ----------
    size
        Height and width in pixels, or one number for both.
    seed
        Seed of everything random.

    Returns
    -------
    image, labels
        uint8 ``[H, W]`` each; labels hold 0 cytoplasm, 1 membrane, 2 mitochondrion.
    """
    shape = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng([seed, 0xE3])
    tissue = _cells(shape, rng)
    shade = _cytoplasm(tissue, rng)
    _draw_microtubules(shade, tissue, rng)
    _draw_vesicles(shade, tissue, rng)
    mitochondria = _draw_mitochondria(shade, tissue, rng)
    membrane = _draw_membranes(shade, tissue, rng)
    labels = np.zeros(shape, np.uint8)
    labels[mitochondria] = MITOCHONDRION
    labels[membrane] = MEMBRANE
    return _photograph(shade, rng), labels


def synthetic_collection(count: int, size: int | tuple[int, int] = 512, seed: int = 0) -> ImageCollection:
    """Draw ``count`` micrographs, seeds ``seed .. seed + count - 1``, as a collection in memory."""
    arrays = {f"synthetic {seed + i}": synthetic_em(size, seed + i)[0] for i in range(count)}
    return collection_from_arrays(arrays, SYNTHETIC_PIXEL_SIZE)


@dataclass(frozen=True)
class _Tissue:
    """Where the cells are: the cell of each pixel, and how far the nearest border to another cell is, in pixels."""

    cell: npt.NDArray[np.intp]
    border: Field
    count: int


def _cells(shape: tuple[int, int], rng: np.random.Generator) -> _Tissue:
    """Divide the section into cells of very uneven size with wavy borders: the power diagram of a disc packing, warped."""
    margin = 70.0
    centres, radii = _packed_discs((shape[0] + 2 * margin, shape[1] + 2 * margin), rng)
    centres -= margin
    rows, columns = np.indices(shape, np.float32)
    for scale, strength in ((120, 26.0), (42, 9.0), (14, 1.9)):
        rows = rows + strength * smooth_noise(shape, scale, rng)
        columns = columns + strength * smooth_noise(shape, scale, rng)
    # The power distance |x - c|² - r² becomes a plain distance, plus a constant, with one more coordinate.
    lift = np.sqrt(radii.max() ** 2 - radii**2)
    places = np.column_stack((rows.ravel(), columns.ravel(), np.zeros(rows.size)))
    distance, nearest = cKDTree(np.column_stack((centres, lift))).query(places, k=2)
    apart = np.hypot(*(centres[nearest[:, 0]] - centres[nearest[:, 1]]).T)
    border = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * apart)
    return _Tissue(nearest[:, 0].reshape(shape), border.reshape(shape).astype(np.float32), len(centres))


def _packed_discs(
    area: tuple[float, float], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Throw discs, large ones first, and keep those that hardly overlap."""
    thrown = round(area[0] * area[1] / 170)
    radii = np.sort(np.exp(rng.normal(np.log(21), 0.62, thrown)).clip(10, 88))[::-1]
    places = rng.uniform((0, 0), area, (thrown, 2))
    # Each disc stands in for what lies around it: a large one is tried only so often, or it would fill the section.
    tried = rng.random(thrown) < np.minimum(1, (24 / radii) ** 1.75)
    places, radii = places[tried], radii[tried]
    kept = np.zeros(len(places), np.bool_)
    for index, (place, radius) in enumerate(zip(places, radii, strict=True)):
        gap = np.hypot(*(places[:index][kept[:index]] - place).T)
        kept[index] = bool((gap > 0.86 * (radius + radii[:index][kept[:index]])).all())
    return places[kept], radii[kept]


def _cytoplasm(tissue: _Tissue, rng: np.random.Generator) -> Field:
    """Return the shade of the cytoplasm, 0 black to 1 white: cells differ in tone and in how grainy they are."""
    shape = tissue.border.shape
    tone = rng.normal(0.69, 0.05, tissue.count) - 0.16 * rng.binomial(1, 0.12, tissue.count)
    grain = rng.uniform(0.5, 1.6, tissue.count)
    fine = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), 1.3) * 4.6
    clumps = smooth_noise(shape, 4.0, rng)
    texture = 0.026 * fine - 0.085 * np.maximum(clumps - 0.75, 0) + 0.034 * smooth_noise(shape, 8, rng)
    shade: Field = tone.astype(np.float32)[tissue.cell] + grain.astype(np.float32)[tissue.cell] * texture
    # Endoplasmic reticulum: level lines of a smooth field, in some places only.
    level = smooth_noise(shape, 20, rng) / 0.085
    shade -= 0.22 * np.exp(-((np.abs(level) - 1.1) ** 2)) * np.clip(2.2 * smooth_noise(shape, 38, rng) - 2.3, 0, 1)
    return shade + 0.028 * smooth_noise(shape, 26, rng)


def _draw_membranes(shade: Field, tissue: _Tissue, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Darken the borders, wide and faint where the section cuts them at a slant, and return what is labelled."""
    shape = shade.shape
    slant = np.maximum(smooth_noise(shape, 46, rng) - 0.55, 0)
    half_width = 2.5 + 0.3 * smooth_noise(shape, 15, rng) + 4.5 * slant
    depth = (0.56 + 0.05 * smooth_noise(shape, 28, rng)) / (1 + 0.75 * slant)
    across = tissue.border / half_width
    shade -= depth * np.exp(-(across**2) * 1.1)
    # The gap between the two membranes shows where the cut is straight.
    shade += 0.10 * np.exp(-((tissue.border / 0.8) ** 2)) * (slant == 0)
    inside: npt.NDArray[np.bool_] = across < 1
    return inside


def _draw_mitochondria(shade: Field, tissue: _Tissue, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw mitochondria into cells with room for them and return where they are."""
    height, width = shade.shape
    taken = np.zeros(shade.shape, np.bool_)
    wanted = max(1, round(height * width / 160**2))
    room = np.flatnonzero(tissue.border > 13)
    if not len(room):
        return taken
    for centre in rng.choice(room, 12 * wanted):
        if wanted == 0:
            break
        row, column = divmod(int(centre), width)
        half_minor = min(float(tissue.border[row, column]) - 4.5, rng.uniform(11, 30))
        half_major = half_minor * rng.uniform(1.15, 2.3)
        if _draw_mitochondrion(shade, taken, tissue, (row, column), (half_major, half_minor), rng):
            wanted -= 1
    return taken


def _draw_mitochondrion(
    shade: Field,
    taken: npt.NDArray[np.bool_],
    tissue: _Tissue,
    centre: tuple[int, int],
    half_axes: tuple[float, float],
    rng: np.random.Generator,
) -> bool:
    """Draw one mitochondrion unless another is in its way."""
    row, column = centre
    half_major, half_minor = half_axes
    reach = int(half_major * 1.3) + 8
    window = (slice(max(0, row - reach), row + reach), slice(max(0, column - reach), column + reach))
    local = shade[window]
    shape = local.shape
    dr, dc = np.indices(shape, np.float32)
    dr += window[0].start - row
    dc += window[1].start - column
    angle = rng.uniform(0, np.pi)
    along, across = dc * np.cos(angle) + dr * np.sin(angle), dr * np.cos(angle) - dc * np.sin(angle)
    across = across + rng.uniform(-0.3, 0.3) * half_minor * (along / half_major) ** 2  # slightly bent
    radius = np.hypot(along / half_major, across / half_minor) * (1 + 0.06 * smooth_noise(shape, 14, rng))
    # Pixels to the hull; the neurite's own membrane keeps its distance.
    inside = -2.5 * np.logaddexp((radius - 1) * half_minor / 2.5, (4.5 - tissue.border[window]) / 2.5)
    inside[tissue.cell[window] != tissue.cell[row, column]] = -9
    here = inside > 0
    if (ndimage.binary_dilation(here, iterations=5) & taken[window]).any() or here.sum() < 250:
        return False
    period = rng.uniform(6.5, 9.5)
    phase = along / period + 0.55 * smooth_noise(shape, 13, rng) + 0.03 * across
    lamella = np.clip(1.6 * np.cos(2 * np.pi * phase) - 0.6 + 0.9 * smooth_noise(shape, 9, rng), 0, 1)
    matrix = rng.uniform(0.40, 0.50) + 0.05 * smooth_noise(shape, 4, rng)
    body = matrix - 0.20 * lamella * np.clip((inside - 2.5) / 2, 0, 1)
    body -= 0.27 * np.exp(-(((inside - 0.9) / 1.3) ** 2)) - 0.07 * np.exp(-(((inside - 3.2) / 1.0) ** 2))
    soft = np.clip(inside + 0.5, 0, 1)
    local[:] = local * (1 - soft) + body * soft
    taken[window] |= here
    return True


def _draw_vesicles(shade: Field, tissue: _Tissue, rng: np.random.Generator) -> None:
    """Draw a few synapses: a dark bar at a membrane and a cloud of vesicles behind it."""
    height, width = shade.shape
    near = np.flatnonzero((tissue.border > 4) & (tissue.border < 9))
    if not len(near):
        return
    for place in rng.choice(near, max(1, round(height * width / 170**2))):
        row, column = divmod(int(place), width)
        cell = tissue.cell[row, column]
        _dab(shade, row, column, 4.5, -0.38, hollow=False)
        _dab(shade, row + rng.normal(0, 3), column + rng.normal(0, 3), 3.5, -0.3, hollow=False)
        for dr, dc in rng.normal(0, 17, (int(rng.integers(14, 40)), 2)):
            r, c = round(row + dr), round(column + dc)
            if 0 <= r < height and 0 <= c < width and tissue.cell[r, c] == cell and tissue.border[r, c] > 7:
                _dab(shade, r, c, rng.uniform(3.6, 4.6), -0.24, hollow=True)


def _draw_microtubules(shade: Field, tissue: _Tissue, rng: np.random.Generator) -> None:
    """Sprinkle small rings into about a third of the cells."""
    height, width = shade.shape
    with_tubules = rng.random(tissue.count) < 0.35
    for place in rng.integers(0, height * width, height * width // 420):
        row, column = divmod(int(place), width)
        if with_tubules[tissue.cell[row, column]] and tissue.border[row, column] > 7:
            _dab(shade, row, column, 2.4, -0.20, hollow=True)


def _dab(shade: Field, row: float, column: float, radius: float, depth: float, hollow: bool) -> None:
    """Add a soft disc or ring."""
    reach = int(radius) + 3
    top, left = max(0, int(row) - reach), max(0, int(column) - reach)
    local = shade[top : int(row) + reach + 1, left : int(column) + reach + 1]
    if not local.size:
        return
    r = np.arange(top, top + local.shape[0], dtype=np.float32)[:, None] - row
    c = np.arange(left, left + local.shape[1], dtype=np.float32) - column
    distance = np.hypot(r, c)
    if hollow:
        local += depth * np.exp(-(((distance - radius + 0.8) / 1.0) ** 2))
    else:
        local += depth / (1 + np.exp(2 * (distance - radius)))


def _photograph(shade: Field, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Expose the section: uneven stain, the microscope's blur, noise, 8 bits."""
    shape = shade.shape
    stained = shade * (1 + 0.05 * smooth_noise(shape, 170, rng)) + 0.035 * smooth_noise(shape, 110, rng)
    exposed = ndimage.gaussian_filter(stained, 0.8)
    shot = rng.standard_normal(shape, np.float32)
    exposed += 0.03 * shot + 0.08 * ndimage.gaussian_filter(shot, 0.8)
    contrast, brightness = rng.normal(1.25, 0.06), rng.normal(-0.23, 0.02)
    grey: npt.NDArray[np.uint8] = np.clip((exposed * contrast + brightness) * 255, 0, 255).astype(np.uint8)
    return grey
