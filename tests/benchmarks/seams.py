"""How much tiling changes a segmentation, near the seams of the tiles and elsewhere.

    python tests/benchmarks/seams.py MODEL IMAGE [IMAGE ...] [--tile 512] [--overlap 128] [--out FILE]

An image is segmented once by overlapping, blended tiles and once in one piece. A seam is the middle of the overlap of two
neighbouring tiles, where the blend changes hands; a pixel is near it if it is at most 32 pixels away.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.io import imread

from napari_affmae import Segmenter, load_model, segment
from napari_affmae.engine.tiling import cover

NEAR = 32


def seams(size: int, tile: int, overlap: int, align: int) -> npt.NDArray[np.bool_]:
    """Return which pixels of an axis are near a seam."""
    axis = cover(size, tile, overlap, align)
    middles = [(before + axis.tile + after) / 2 for before, after in zip(axis.starts[:-1], axis.starts[1:], strict=True)]
    pixels = np.arange(size)
    return np.any([np.abs(pixels - middle) <= NEAR for middle in middles], axis=0) if middles else np.zeros(size, bool)


def compare(model: Segmenter, image: npt.NDArray[np.generic], tile: int, overlap: int) -> dict[str, float]:
    """Return the share of pixels whose class differs, near seams, elsewhere and overall."""
    height, width = image.shape[:2]
    patch = model.config.patch_size
    whole = segment(model, image, tile=-(-max(height, width) // patch) * patch).labels
    differs = segment(model, image, tile=tile, overlap=overlap).labels != whole
    near = seams(height, tile, overlap, patch)[:, None] | seams(width, tile, overlap, patch)
    figures = {"near": float(differs[near].mean()), "elsewhere": float(differs[~near].mean()), "overall": float(differs.mean())}
    return {**figures, "ratio": figures["near"] / max(figures["elsewhere"], 1e-9)}


def main() -> int:
    """Compare every image and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int, help="pixels that neighbouring tiles share [a quarter of the tile]")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = load_model(given.model)
    if not isinstance(model, Segmenter):
        parser.error(f"{given.model} is no segmenter")
    rows = {path.name: compare(model, imread(path), given.tile, given.overlap or given.tile // 4) for path in given.images}
    rows["mean"] = {key: float(np.mean([row[key] for row in rows.values()])) for key in next(iter(rows.values()))}
    print(f"{'image':24}{'near seams':>12}{'elsewhere':>12}{'overall':>12}{'ratio':>8}")
    for name, row in rows.items():
        print(f"{name:24}{row['near']:12.2%}{row['elsewhere']:12.2%}{row['overall']:12.2%}{row['ratio']:8.2f}")
    if given.out is not None:
        given.out.write_text(json.dumps({"tile": given.tile, "images": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
