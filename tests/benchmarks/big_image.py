"""Memory of segmenting one large zarr image, in a process of its own.

    python tests/benchmarks/big_image.py [--side 2000 4000 8000] [--narrow] [--device cpu] [--out FILE]

For each side it makes a square uint8 zarr, runs ``napari-affmae segment`` on it as a user would (tiles of 512), and prints the
largest resident set of that process. The network has random weights: what it says changes neither time nor memory. ``--narrow``
takes a network of a few thousand weights, which shows the memory of very large images on a small machine in minutes; the memory
of a network itself does not depend on the image.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TILE = 512
CHUNK = 1024
LIMIT = 3 * 2**30


def make_image(path: Path, side: int) -> None:
    """Write an image of blobs, band by band."""
    import zarr

    array = zarr.create_array(str(path), shape=(side, side), chunks=(CHUNK, CHUNK), dtype="uint8")
    columns = np.arange(side)
    for top in range(0, side, CHUNK):
        rows = np.arange(top, min(top + CHUNK, side))[:, None]
        waves = np.sin(rows / 17) * np.cos(columns / 23) + 0.3 * np.sin((rows + columns) / 5)
        array[top : top + CHUNK] = (120 + 80 * waves).clip(0, 255).astype(np.uint8)


def make_model(path: Path, preset: str, narrow: bool) -> None:
    """Save a segmenter of two classes with random weights."""
    from napari_affmae import ModelConfig, Segmenter, save_model
    from napari_affmae.card import ModelCard, Normalisation

    small: dict[str, Any] = {
        "patch_size": 16, "embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1),
        "neighbourhood": (8, 8, 8, 8), "decoder_dim": 8, "decoder_heads": 1,
    }  # fmt: skip
    model = Segmenter(ModelConfig.preset(preset, **(small if narrow else {})), 2)  # type: ignore[arg-type]
    model.card = ModelCard(normalisation=Normalisation(low=(0,), high=(255,), mean=(120,), std=(50,)), tile=TILE)
    save_model(model, path)


def peak_of(words: list[str]) -> tuple[int, float]:
    """Run a command; return the largest resident set of its process in bytes, and its seconds.

    A process inherits the largest resident set of the one that starts it, so this one must stay small: image and model are made
    in processes of their own.
    """
    started = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit, time.perf_counter() - started


def check(out: Path, side: int) -> None:
    """See whether the table of areas counts every pixel of the image."""
    with (out / "areas.csv").open(newline="", encoding="utf-8") as file:
        pixels = sum(int(row["pixels"]) for row in csv.DictReader(file))
    if pixels != side * side:
        raise SystemExit(f"{pixels} pixels were segmented instead of {side * side}")


def main() -> int:
    """Measure each side and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, nargs="+", default=[2000, 4000, 8000])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("--format", default="ome-zarr", choices=("ome-zarr", "tiff"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.prepare is not None:
        make_image(given.prepare / "image.zarr", given.side[0])
        make_model(given.prepare / "model.safetensors", given.preset, given.narrow)
        return 0
    rows = []
    print(f"{'side':>8}{'seconds':>10}{'peak RSS':>12}{'of 3 GiB':>10}", flush=True)
    for side in given.side:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            prepare = [sys.executable, __file__, "--prepare", str(place), "--side", str(side), "--preset", given.preset]
            subprocess.run([*prepare, *["--narrow"] * given.narrow], check=True)
            words = ["-m", "napari_affmae", "segment", str(place / "model.safetensors"), str(place / "image.zarr")]
            words += ["--out", str(place / "out"), "--format", given.format, "--device", given.device]
            peak, seconds = peak_of([sys.executable, *words])
            check(place / "out", side)
        rows.append({"side": side, "seconds": round(seconds, 1), "peak_bytes": peak})
        print(f"{side:8}{seconds:10.1f}{peak / 2**20:9.0f} MiB{peak / LIMIT:10.0%}", flush=True)
    if given.out is not None:
        record = {"preset": given.preset, "narrow": given.narrow, "format": given.format, "device": given.device, "rows": rows}
        given.out.write_text(json.dumps(record, indent=2))
    return 0 if all(row["peak_bytes"] < LIMIT for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
