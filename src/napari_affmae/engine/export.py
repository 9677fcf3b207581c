"""Export of a segmenter as one file for other programs."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..card import Normalisation
from ..config import ExportConfig
from ..control import JobControl, Stopped
from ..data.classes import class_table_of
from ..data.crops import crop
from ..data.lazy_plane import LazyPlane
from ..data.normalisation import measure_array
from ..data.records import ImageRecord, prepare
from ..data.synthetic import synthetic_em
from ..data.write import placing
from ..errors import AffmaeError, ModelFileError
from ..events import Done, Event, Notice, PartBegun
from ..model.portable import PortableSegmenter, to_torchscript
from ..model.segmenter import Segmenter
from ..model_report import ModelReport, report
from ..report_text import as_markdown
from ..zoo import why_not_export
from .bioimageio_check import CheckResult, check_package
from .bioimageio_description import NOBODY, PackageFiles, check_about, describe_package, package_name
from .confusion import unique_names
from .cover import write_cover
from .device import limited_threads
from .segment import check_channels, default_tile, load_segmenter

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExportResult:
    """An exported package.

    Attributes
    ----------
    path
        The file.
    name
        What the package calls itself.
    tile
        Side of the tiles that it takes, in pixels.
    check
        What the other program said about it, or None if it was not asked.
    """

    path: Path
    name: str
    tile: int
    check: CheckResult | None


def export(
    model: Path | str,
    out: Path | str,
    config: ExportConfig,
    *,
    sample: ImageRecord | None = None,
    overwrite: bool = False,
    control: JobControl | None = None,
    threads: int | None = None,
) -> Iterator[Event]:
    """Write a segmenter as a package of the BioImage Model Zoo, and let the Zoo's library run it.

    The package holds the network as TorchScript, for tiles of one size, with the statistics of the training images inside, a
    test image and its result, a picture, and the model card as its documentation.

    Parameters
    ----------
    model
        File or run folder of a segmenter.
    out
        The zip file to write. It appears only if the check has passed.
    config
        Name, authors, licence and so on.
    sample
        An image whose middle becomes the test image and is given away with the package; None draws one.
    overwrite
        Whether a file that is there may be replaced.
    control, threads
        As in :func:`~napari_affmae.engine.pretrain.pretrain`.

    Yields
    ------
    Event
        ``PartBegun`` and ``Notice``; ``Done`` with an :class:`ExportResult`, or None if it was stopped.

    Raises
    ------
    ConfigError
        If the description does not fit the format.
    ModelFileError
        If the model is no segmenter, or has no statistics and there is no sample to take them from.
    DataError
        If the sample cannot be read or has other channels.
    StorageError
        If the file is there already or cannot be written.
    AffmaeError
        If the library is not installed, or the package does not do what the network does.
    """
    missing = why_not_export()
    if missing is not None:
        raise AffmaeError(missing)
    check_about(config)
    control = control or JobControl()
    out = Path(out)
    out = out if out.suffix == ".zip" else out.with_name(f"{out.name}.zip")
    network = load_segmenter(model)
    if sample is not None:
        check_channels(network, sample.channels)
    patch = network.config.patch_size
    tile = -(-(config.tile or default_tile(network)) // patch) * patch
    name = package_name(unique_names(class_table_of(network)), config)
    try:
        with placing(out, overwrite) as place, limited_threads(threads):
            check = yield from _make(network, report(model), name, tile, place, config, sample, control)
    except Stopped:
        yield Done("export", 0, None, stopped=True)
        return
    if not config.authors:
        yield Notice("export", f"the package names “{NOBODY}”: say who made the model before you publish it")
    yield PartBegun("export", "finished", 1.0)
    yield Done("export", 0, out, result=ExportResult(out, name, tile, check))


def _make(
    network: Segmenter,
    known: ModelReport,
    name: str,
    tile: int,
    place: Path,
    config: ExportConfig,
    sample: ImageRecord | None,
    control: JobControl,
) -> Generator[Event, None, CheckResult | None]:
    """Write the package to ``place`` and return what the check says."""

    def begin(what: str, fraction: float) -> PartBegun:
        if control.stop_requested:
            raise Stopped
        return PartBegun("export", what, fraction)

    yield begin("preparing the test image", 0.0)
    pixels = None if sample is None else sample.load()
    normalisation = _statistics(network.card.normalisation, pixels)
    image = _test_image(pixels, normalisation, tile)
    yield begin(f"recording the network for tiles of {tile} × {tile} pixels", 0.1)
    weights = to_torchscript(network, normalisation, tile)
    yield begin("writing the package", 0.5)
    with tempfile.TemporaryDirectory() as folder:
        files = _write_files(Path(folder), network, normalisation, image, weights, _documentation(known, tile, name))
        _write_package(describe_package(network, files, tile, config), place)
    if not config.check:
        return None
    yield begin("running it with bioimageio.core, without napari", 0.6)
    check = check_package(place, control)
    if check is None:
        raise Stopped
    if not check.passed:
        why = "; ".join(check.errors[:2]) or "it gives no reason"
        raise AffmaeError(
            f"bioimageio.core does not accept the package ({why}), so it was not written; install bioimageio.core again, and "
            "report this if it goes on"
        )
    return check


def _statistics(known: Normalisation | None, pixels: npt.NDArray[Any] | LazyPlane | None) -> Normalisation:
    if known is not None:
        return known
    if pixels is None:
        raise ModelFileError("the model has no intensity statistics: give an image to take them from, or train it further")
    return measure_array(pixels)


def _test_image(pixels: npt.NDArray[Any] | LazyPlane | None, normalisation: Normalisation, tile: int) -> FloatArray:
    """Return a raw tile ``[C, T, T]``: the middle of an image, or a drawn one in the range of the training images."""
    if pixels is not None:
        middle = prepare(crop(pixels, (pixels.shape[0] - tile) // 2, (pixels.shape[1] - tile) // 2, tile), None)
        return np.ascontiguousarray(middle.transpose(2, 0, 1), np.float32)
    drawn = synthetic_em(tile)[0].astype(np.float32) / 255
    pairs = zip(normalisation.low, normalisation.high, strict=True)
    return np.stack([low + drawn * (high - low) for low, high in pairs]).astype(np.float32)


def _write_files(
    folder: Path, network: Segmenter, normalisation: Normalisation, image: FloatArray, weights: bytes, documentation: str
) -> PackageFiles:
    files = PackageFiles(
        *(folder / name for name in ("weights.pt", "test_input.npy", "test_output.npy", "README.md", "cover.png"))
    )
    # The expected output is this network's own, so that the check compares what was recorded with what it was recorded from.
    with torch.no_grad():
        expected = PortableSegmenter(network, normalisation).eval()(torch.from_numpy(image[None])).numpy()
    files.weights.write_bytes(weights)
    np.save(files.test_input, image[None])
    np.save(files.test_output, expected)
    files.documentation.write_text(documentation, encoding="utf-8")
    write_cover(files.cover, image, expected[0].argmax(axis=0), class_table_of(network), normalisation)
    return files


def _write_package(description: Any, place: Path) -> None:
    from bioimageio.spec import save_bioimageio_package

    save_bioimageio_package(description, output_path=place)


def _documentation(found: ModelReport, tile: int, name: str) -> str:
    return f"""# {name}

{found.title}. Made with napari-affmae, exported for use without it: raw intensities in, the probability of each class out.
The network takes tiles of {tile} × {tile} pixels; an eighth of a tile at each side is context, to be cut off where tiles are
put together. It expects the pixel size and the kind of image that it was trained on.

{as_markdown(found)}
"""
