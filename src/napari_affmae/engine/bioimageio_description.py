"""The description of a package in the format of the BioImage Model Zoo, made with its own library, which is imported on use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..config import ExportConfig
from ..data.classes import class_table_of
from ..errors import ConfigError
from ..model.segmenter import Segmenter
from ..zoo import INSTALL
from .confusion import unique_names

METHOD = "AFFMAE: Scalable and Efficient Vision Pretraining for Desktop Graphics Cards", "10.48550/arXiv.2602.16249"

NOBODY = "Unknown author"

TILE_MARGIN = 8
"""An eighth of the tile at each side is for context; other programs cut it off where they put tiles together."""

_ABSOLUTE_TOLERANCE = 0.009
"""Part of the largest probability; the format allows a hundredth."""

_LONGEST_REASON = 200

_DOI = re.compile(r"(?:https?://\S*?/|doi:\s*)?(10\.\d{4,9}/\S+)", re.IGNORECASE)
"""A DOI, with what makes it an address."""

_ADDRESS = re.compile(r"https?://\S+")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_+\-() ]+")


@dataclass(frozen=True)
class PackageFiles:
    """Files that the description refers to."""

    weights: Path
    test_input: Path
    test_output: Path
    documentation: Path
    cover: Path


def describe_package(model: Segmenter, files: PackageFiles, tile: int, config: ExportConfig) -> Any:
    """Return a ``bioimageio.spec.model.v0_5.ModelDescr``.

    Parameters
    ----------
    model
        The segmenter, with its card.
    files
        The files, which must be there.
    tile
        Side of the tiles that the weights take.
    config
        What the user says about it.

    Raises
    ------
    ConfigError
        If something that the user says does not fit the format: a licence that is not in its list, a citation without a DOI.
    """
    from bioimageio.spec.model import v0_5 as zoo
    from pydantic import ValidationError

    names = unique_names(class_table_of(model))
    # What is recorded sorts tokens by what it computes: on another device another rounding may choose another token.
    tolerance = zoo.ReproducibilityTolerance(
        relative_tolerance=1e-2,
        absolute_tolerance=_ABSOLUTE_TOLERANCE * float(np.load(files.test_output).max()),
        mismatched_elements_per_million=5000,
    )
    try:
        return zoo.ModelDescr(
            name=package_name(names, config),
            description=config.description or f"Segments microscopy images into {', '.join(names)}."[:512],
            authors=[_author(zoo, text) for text in config.authors or (NOBODY,)],
            cite=[_citation(zoo, f"{METHOD[0]}, {METHOD[1]}"), *(_citation(zoo, text) for text in config.cite)],
            license=config.licence,
            tags=["affmae", "segmentation", "semantic-segmentation", "2d", "pytorch", "napari", "self-supervised"],
            documentation=zoo.FileDescr(source=files.documentation),
            covers=[zoo.FileDescr(source=files.cover)],
            inputs=[_image(zoo, model, files.test_input, tile)],
            outputs=[_probabilities(zoo, model, files.test_output, names, tile)],
            weights=zoo.WeightsDescr(
                torchscript=zoo.TorchscriptWeightsDescr(
                    source=files.weights, pytorch_version=zoo.Version(str(torch.__version__).partition("+")[0])
                )
            ),
            config=zoo.Config(
                bioimageio=zoo.BioimageioConfig(
                    reproducibility_tolerance=[tolerance],
                    architecture_type="AFFMAE",
                    task="semantic segmentation",
                    target_structure=names,
                    model_parameter_count=sum(parameter.numel() for parameter in model.parameters()),
                ),
                napari_affmae={"version": __version__, "card": model.card.model_dump(mode="json")},
            ),
        )
    except ValidationError as error:
        reasons = [(".".join(map(str, one["loc"][:2])), one["msg"][:_LONGEST_REASON]) for one in error.errors()[:3]]
        places = "; ".join(f"{place}: {reason}" for place, reason in reasons)
        raise ConfigError(
            f"the package's description does not fit the format ({places}); change that, or install the libraries that "
            f"are known to work with {INSTALL}"
        ) from error


def check_about(config: ExportConfig) -> None:
    """Check what the user says before the long work begins.

    Raises
    ------
    ConfigError
        If an author, a citation or the licence does not fit the format.
    """
    from bioimageio.spec.model import v0_5 as zoo

    for text in config.authors:
        _author(zoo, text)
    for text in config.cite:
        _citation(zoo, text)
    try:
        zoo.LicenseId(config.licence)
    except ValueError:  # the error itself lists hundreds of licences
        raise ConfigError(
            f"{config.licence!r} is no licence that the format knows: take an SPDX identifier such as CC-BY-4.0, CC0-1.0 or MIT"
        ) from None


def package_name(class_names: Sequence[str], config: ExportConfig) -> str:
    """Return a name in the characters that the format allows, 5 to 64 of them."""
    name = " ".join(_NOT_IN_NAMES.sub(" ", config.name or f"AFFMAE {' '.join(class_names)}").split())[:64].strip()
    return name if len(name) >= 5 else f"AFFMAE {name}".strip()


def _image(zoo: Any, model: Segmenter, test: Path, tile: int) -> Any:
    channels = [f"channel {number}" for number in range(1, model.config.in_channels + 1)]
    size = model.card.pixel_size

    def axis(name: str) -> Any:
        physical = {} if size is None else {"unit": size.unit, "scale": getattr(size, name)}
        return zoo.SpaceInputAxis(id=name, size=tile, concatenable=True, **physical)

    return zoo.InputTensorDescr(
        id="image",
        description=f"Raw intensities, tiles of {tile} x {tile} pixels; clipped and normalised inside",
        axes=[zoo.BatchAxis(size=1), zoo.ChannelAxis(channel_names=channels), axis("y"), axis("x")],
        test_tensor=zoo.FileDescr(source=test),
        data=zoo.IntervalOrRatioDataDescr(type="float32"),
        pad=zoo.ReflectPadding(),
    )


def _probabilities(zoo: Any, model: Segmenter, test: Path, names: list[str], tile: int) -> Any:
    size = model.card.pixel_size

    def axis(name: str) -> Any:
        physical = {} if size is None else {"unit": size.unit, "scale": getattr(size, name)}
        reference = zoo.SizeReference(tensor_id="image", axis_id=name)
        return zoo.SpaceOutputAxisWithHalo(id=name, size=reference, halo=tile // TILE_MARGIN, **physical)

    ids = ", ".join(f"{name} (id {info.id})" for name, info in zip(names, class_table_of(model), strict=True))
    return zoo.OutputTensorDescr(
        id="probabilities",
        description="Probability of each class; they sum to 1 in every pixel",
        axes=[
            zoo.BatchAxis(size=1),
            zoo.ChannelAxis(channel_names=names, description=f"Classes: {ids}"[:128]),
            axis("y"),
            axis("x"),
        ],
        test_tensor=zoo.FileDescr(source=test),
        data=zoo.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
    )


def _author(zoo: Any, text: str) -> Any:
    name, _, affiliation = (part.strip() for part in text.partition(";"))
    if not name or "/" in name or "\\" in name:
        raise ConfigError(f"{text!r} is no author's name: write “Name” or “Name; affiliation”, without slashes in the name")
    return zoo.Author(name=name, affiliation=affiliation or None)


def _citation(zoo: Any, text: str) -> Any:
    doi, address = _DOI.search(text), _ADDRESS.search(text)
    if doi is not None:
        return zoo.CiteEntry(text=text.replace(doi[0], "").strip(" ,;:.(") or text, doi=doi[1].rstrip(".,;)"))
    if address is not None:
        return zoo.CiteEntry(text=text.replace(address[0], "").strip(" ,;:.") or text, url=address[0])
    raise ConfigError(f"the citation {text!r} has neither a DOI (10.…/…) nor an address (https://…): add one")
