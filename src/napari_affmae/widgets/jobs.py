"""What the worker thread runs: each function here returns a job for :class:`~.job_runner.JobRunner`.

The engine is imported inside :class:`Engine`'s methods, which run in the worker: opening the dock costs no torch, and the
seconds that importing it takes do not freeze the window.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..card import ClassInfo, PixelSize
from ..config import ApplyConfig, DeviceName, ExportConfig, FinetuneConfig, LiveConfig, PretrainConfig, Refinement, Views
from ..control import JobControl, Stopped
from ..data.records import ImageCollection, ImageRecord, Skipped, of_one_channel_count
from ..errors import DataError, ModelFileError, OtherDataError
from ..events import Event
from .job_runner import Job
from .mailbox import SECONDS_BETWEEN_BATCHES
from .state import MOST_CLASS_ID, ModelOnDisk

if TYPE_CHECKING:
    from ..data.label_images import LabelledImage
    from ..data.predicted_image import PredictedImage
    from ..engine.uncertainty import UncertaintyMeans
    from ..model_report import ModelReport


@dataclass(frozen=True)
class ScanDone:
    """The images were read."""

    images: ImageCollection


@dataclass(frozen=True)
class ModelRead:
    """The header of a model file was read."""

    model: ModelOnDisk


@dataclass(frozen=True)
class OpenLayer:
    """The pixels of an open layer: ``[..., H, W]``, or ``[..., H, W, 3 or 4]`` if ``rgb``."""

    name: str
    pixels: Any
    rgb: bool
    pixel_size: PixelSize | None


def job_threads() -> int:
    """Return how many CPU threads a job may use: one less than there are cores, so that the window keeps one to itself.

    Torch's threads wait for each other many times per step. One that shares its core with the window, or with another program,
    holds up all of them, and two threads on two busy cores were many times slower than one.
    """
    return max(1, (os.cpu_count() or 1) - 1)


class Engine:
    """The functions of the package that the dock calls. Tests put a fake in its place."""

    def scan(self, path: Path, channels: Sequence[int] | None, on_progress: Callable[[int, int], None]) -> ImageCollection:
        """See :func:`napari_affmae.data.scan.scan`."""
        from ..data.scan import scan

        return scan(path, channels=channels, on_progress=on_progress)

    def read_layer(self, layer: OpenLayer) -> ImageCollection:
        """See :func:`napari_affmae.data.scan.collection_from_arrays`."""
        from ..data.scan import collection_from_arrays

        return collection_from_arrays({layer.name: layer.pixels}, layer.pixel_size, layer.rgb)

    def pretrain(
        self, images: ImageCollection, run: Path, config: PretrainConfig, *, resume: bool, control: JobControl
    ) -> Iterator[Event]:
        """See :func:`napari_affmae.pretrain`."""
        from ..engine.pretrain import pretrain

        return pretrain(images, run, config, resume=resume, control=control, threads=job_threads())

    def finetune(
        self,
        model: Path | str,
        examples: Sequence[LabelledImage],
        run: Path,
        config: FinetuneConfig,
        *,
        classes: Sequence[ClassInfo],
        resume: bool,
        control: JobControl,
    ) -> Iterator[Event]:
        """See :func:`napari_affmae.finetune`; paint is sparse."""
        from ..engine.finetune import finetune

        return finetune(
            model, examples, run, config, classes=classes, sparse=True,
            resume=resume, control=control, threads=job_threads(),
        )  # fmt: skip

    def compare(
        self,
        model: Path,
        examples: Sequence[LabelledImage],
        folder: Path,
        config: FinetuneConfig,
        *,
        classes: Sequence[ClassInfo],
        control: JobControl,
    ) -> Iterator[Event]:
        """See :func:`napari_affmae.engine.compare.compare`; paint is sparse."""
        from ..engine.compare import compare

        return compare(model, examples, folder, config, classes=classes, sparse=True, control=control, threads=job_threads())

    def segment(
        self, model: Path, image: Any, *, device: DeviceName, pixel_size: PixelSize | None, views: Views, control: JobControl
    ) -> Iterator[Event]:
        """See :func:`napari_affmae.engine.segment.segment_events`."""
        from ..engine.segment import segment_events

        return segment_events(
            model, image, device=device, pixel_size=pixel_size, views=views, control=control, threads=job_threads()
        )

    def uncertainty(self, probabilities: Any) -> npt.NDArray[np.float32]:
        """See :func:`napari_affmae.engine.uncertainty.uncertainty`."""
        from ..engine.uncertainty import uncertainty

        return uncertainty(probabilities)

    def cell_means(self, values: Any, cell: int) -> npt.NDArray[np.float32]:
        """See :func:`napari_affmae.engine.uncertainty.cell_means`."""
        from ..engine.uncertainty import cell_means

        return cell_means(values, cell)

    def uncertainty_means(self, height: int, width: int, cell: int) -> UncertaintyMeans:
        """See :class:`napari_affmae.engine.uncertainty.UncertaintyMeans`."""
        from ..engine.uncertainty import UncertaintyMeans

        return UncertaintyMeans(height, width, cell)

    def suggest(
        self,
        model: Path,
        images: Sequence[PredictedImage],
        *,
        count: int,
        device: DeviceName,
        rescale: bool,
        control: JobControl,
    ) -> Iterator[Event]:
        """See :func:`napari_affmae.engine.suggest.suggest`."""
        from ..engine.suggest import suggest

        return suggest(model, images, count=count, device=device, rescale=rescale, control=control, threads=job_threads())

    def accept(self, prediction: Any, paint: Any, outline: Sequence[tuple[float, float]], classes: Collection[int]) -> Any:
        """See :mod:`napari_affmae.engine.accept`; an outline of one point is a place in a region."""
        from ..engine.accept import accept_inside, accept_region

        ids = np.asarray(prediction)
        if len(outline) > 1:
            return accept_inside(ids, paint, outline, classes)
        row, column = outline[0]
        return accept_region(ids, paint, (round(row), round(column)), classes)

    def open_live(self, model: Path | str, classes: Sequence[ClassInfo], images: ImageCollection, device: DeviceName) -> Any:
        """See :class:`napari_affmae.engine.live.LiveSession`."""
        from ..engine.live import LiveSession

        return LiveSession(model, classes, images, LiveConfig(device=device), threads=job_threads())

    def inspect(self, model: Path, image: Any, *, region: tuple[slice, slice] | None, device: DeviceName) -> Any:
        """See :func:`napari_affmae.inspect`."""
        from ..engine.inspect import inspect

        return inspect(model, image, region=region, device=device, threads=job_threads())

    def apply(
        self,
        model: Path,
        images: ImageCollection,
        out: Path,
        config: ApplyConfig,
        *,
        overwrite: bool,
        control: JobControl,
        also: Callable[[int, Any], None] | None = None,
    ) -> Iterator[Event]:
        """See :func:`napari_affmae.engine.apply.apply`; what is finished is left out unless it is overwritten."""
        from ..engine.apply import apply

        return apply(
            model, images, out, config,
            resume=not overwrite, overwrite=overwrite, also=also, control=control, threads=job_threads(),
        )  # fmt: skip

    def output_folder(self, project: Path, model: Path, images: ImageCollection, config: ApplyConfig) -> Path:
        """See :func:`napari_affmae.engine.apply.output_folder`."""
        from ..engine.apply import output_folder

        return output_folder(project, model, images, config)

    def refine(self, labels: Any, classes: Sequence[ClassInfo], settings: Refinement, certainty: Any) -> Any:
        """See :func:`napari_affmae.engine.refine.refine`."""
        from ..engine.refine import refine

        return refine(labels, classes, settings, certainty)

    def labels(self, probabilities: Any, classes: Sequence[ClassInfo]) -> npt.NDArray[Any]:
        """See :func:`napari_affmae.engine.segment.labels_of`."""
        from ..engine.segment import labels_of

        return labels_of(probabilities, classes)

    def certainty(self, probabilities: Any) -> npt.NDArray[np.uint8]:
        """See :func:`napari_affmae.engine.refine.certainty_of`."""
        from ..engine.refine import certainty_of

        return certainty_of(probabilities)

    def model_report(self, path: Path) -> ModelReport:
        """See :func:`napari_affmae.model_report.report`."""
        from ..model_report import report

        return report(path)

    def why_not_export(self) -> str | None:
        """See :func:`napari_affmae.zoo.why_not_export`."""
        from ..zoo import why_not_export

        return why_not_export()

    def export(
        self, model: Path, out: Path, config: ExportConfig, *, sample: ImageRecord | None, control: JobControl
    ) -> Iterator[Event]:
        """See :func:`napari_affmae.engine.export.export`."""
        from ..engine.export import export

        return export(model, out, config, sample=sample, overwrite=True, control=control, threads=job_threads())

    def read_model(self, path: Path) -> ModelOnDisk:
        """Read the header of a model file; see :func:`napari_affmae.model_header.read_card`.

        Raises
        ------
        ModelFileError
            If it is no model, or one whose classes layers of labels do not hold.
        """
        from ..model_header import read_card

        header = read_card(path)
        if beyond := [info for info in header.card.classes if info.id > MOST_CLASS_ID]:
            raise ModelFileError(
                f"{path} knows the class “{beyond[0].name}” by the label {beyond[0].id}, and the dock holds labels up to "
                f"{MOST_CLASS_ID}: use it on the command line, or train with smaller labels"
            )
        return ModelOnDisk(Path(path), header.config.in_channels, header.num_classes or 0, header.card)


def scan_job(engine: Engine, path: Path, channels: Sequence[int] | None, report: Callable[[int, int], None]) -> Job:
    """Read a folder. ``report(done, total)`` is called in the worker thread, at most ten times a second."""

    def job(control: JobControl) -> Iterator[object]:
        last = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            if control.stop_requested:
                raise Stopped
            if time.monotonic() - last >= SECONDS_BETWEEN_BATCHES:
                last = time.monotonic()
                report(done, total)

        try:
            yield ScanDone(engine.scan(path, channels, on_progress))
        except Stopped:
            return

    return job


def layers_job(engine: Engine, layers: Sequence[OpenLayer]) -> Job:
    """Take the images of open layers. Those whose channel count is not that of the majority are skipped."""

    def job(control: JobControl) -> Iterator[object]:
        records: list[ImageRecord] = []
        skipped: list[Skipped] = []
        for layer in layers:
            if control.stop_requested:
                return
            try:
                found = engine.read_layer(layer)
            except DataError as error:
                skipped.append(Skipped(layer.name, str(error)))
                continue
            records += found.records
            skipped += found.skipped
        if not records:
            reasons = "; ".join(f"{one.name}: {one.reason}" for one in skipped) or "there are none"
            raise DataError(f"no usable image among the open layers ({reasons}); open an image or choose a folder")
        channels, others = of_one_channel_count(records)
        kept = tuple(record for record in records if record.channels == channels)
        yield ScanDone(ImageCollection(kept, (*skipped, *others)))

    return job


def load_job(engine: Engine, path: Path) -> Job:
    """Read what a model file says about itself."""

    def job(control: JobControl) -> Iterator[object]:
        yield ModelRead(engine.read_model(path))

    return job


def pretrain_job(engine: Engine, images: ImageCollection, run: Path, config: PretrainConfig, resume: bool) -> Job:
    """Pretrain into the folder ``run``."""

    def job(control: JobControl) -> Iterator[object]:
        yield from engine.pretrain(images, run, config, resume=resume, control=control)

    return job


def finetune_job(
    engine: Engine,
    model: Path | str,
    paint: Sequence[tuple[ImageRecord, Any]],
    run: Path,
    config: FinetuneConfig,
    classes: Sequence[ClassInfo],
    resume: bool,
) -> Job:
    """Train on ``paint``: for each image its record and its painted labels ``[H, W]``, as a copy or as what reads them."""

    def job(control: JobControl) -> Iterator[object]:
        try:
            yield from engine.finetune(model, _examples(paint), run, config, classes=classes, resume=resume, control=control)
        except OtherDataError as error:
            raise OtherDataError(
                f"{run.name} cannot go on, as the paint or the images have changed since it was stopped: click Train to start "
                "anew with what there is now"
            ) from error

    return job


def compare_job(
    engine: Engine,
    model: Path,
    paint: Sequence[tuple[ImageRecord, Any]],
    folder: Path,
    config: FinetuneConfig,
    classes: Sequence[ClassInfo],
) -> Job:
    """Train on ``paint`` with and without what pretraining taught; see :func:`finetune_job`."""

    def job(control: JobControl) -> Iterator[object]:
        yield from engine.compare(model, _examples(paint), folder, config, classes=classes, control=control)

    return job


def _examples(paint: Sequence[tuple[ImageRecord, Any]]) -> list[LabelledImage]:
    """Return labelled images; what is not open is read here, beside the window's thread."""
    from ..data.label_images import LabelledImage

    return [LabelledImage(record, labels.read() if hasattr(labels, "read") else labels) for record, labels in paint]
