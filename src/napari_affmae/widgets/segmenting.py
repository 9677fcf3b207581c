"""Segmenting planes of open images: which ones, how, and what becomes of the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..config import ApplyConfig
from ..events import Notice, Progress
from .class_ids import in_layers, labels_in_layers
from .forms import JobBar
from .image_jobs import ImageDone, ImageFailed, Working, one_after_the_other, segment_job
from .large import STEP, LargeDone, large_job, levels_of
from .plane import is_large
from .slices import slices_from
from .warnings_once import NoticeAgain, Warned

if TYPE_CHECKING:
    from .job_runner import Job
    from .plane import Plane
    from .session import Session
    from .state import ModelOnDisk


class Segmenting:
    """The job that segments, and its way into the layers.

    Parameters
    ----------
    session
        The dock's shared objects.
    bar
        Shows how far it is.
    rescale
        Says whether images are scaled to the model's pixel size.
    """

    def __init__(self, session: Session, bar: JobBar, rescale: Callable[[], bool]) -> None:
        self._session = session
        self._bar = bar
        self._rescale = rescale
        self._planes: dict[str, Plane] = {}
        self._done = 0
        self._failed = False
        self._warned = Warned()
        self._working = Working("", 1, 1)
        session.event.connect(self._on_event)
        session.runner.failed.connect(self._on_failed)
        session.job_ended.connect(self._on_job_ended)

    def current(self) -> None:
        """Segment the current image."""
        plane = self._session.layers.current()
        if plane is not None:
            self._begin([plane])

    def visible(self) -> None:
        """Segment every visible image."""
        self._begin(self._session.layers.visible_planes())

    def slices(self) -> None:
        """Segment every slice of the current image, outwards from the shown one; of very large ones that alone."""
        plane = self._session.layers.current()
        if plane is None:
            return
        if is_large(plane):
            self._session.warn(
                "slices of this size are not held in memory: only the shown one is segmented, use “Apply to all images” for all"
            )
        self._begin([plane] if is_large(plane) else slices_from(plane))

    def _begin(self, planes: list[Plane]) -> None:
        session = self._session
        model = session.state.segmenter
        if model is None or not planes:
            return
        if not all(is_large(plane) or session.restorer.restore(plane) for plane in planes):
            return
        self._planes = {plane.name: plane for plane in planes}
        self._done, self._failed, self._warned = 0, False, Warned()
        jobs = [(plane.name, self._large(plane, model) if is_large(plane) else self._held(plane, model)) for plane in planes]
        session.layers.lay_down_brush()
        self._bar.start()
        session.start("segment", one_after_the_other(jobs))

    def _held(self, plane: Plane, model: ModelOnDisk) -> Job:
        session, settings = self._session, self._session.settings
        size = plane.current_image().pixel_size if self._rescale() else None
        certainty = session.keeper.certainty_of(plane.name)
        return segment_job(session.engine, model.path, plane.record(), size, settings.device, settings.views, certainty)

    def _large(self, plane: Plane, model: ModelOnDisk) -> Job:
        session, settings = self._session, self._session.settings
        config = ApplyConfig(format="ome-zarr", device=settings.device, views=settings.views, rescale=self._rescale())
        return large_job(session.engine, model, plane.record(), session.project, config)

    # Reactions

    def _on_event(self, event: object) -> None:
        if self._session.state.job != "segment":
            return
        if isinstance(event, Working):
            self._working = event
        elif isinstance(event, Progress):
            self._show_progress(event)
        elif isinstance(event, ImageDone):
            self._done += 1
            self._show(event)
        elif isinstance(event, LargeDone):
            self._done += 1
            self._show_large(event)
        elif isinstance(event, Notice | NoticeAgain):
            self._warned.take(event)
        elif isinstance(event, ImageFailed):
            self._failed = True
            self._session.fail(event.error)

    def _on_failed(self) -> None:
        self._failed = True

    def _on_job_ended(self, name: str) -> None:
        # What failed stands in the status line.
        if name == "segment" and not self._failed:
            end = f"Segmentation {'is done' if self._done == len(self._planes) else 'was stopped'}."
            self._session.say(f"{end} {self._warned.in_words()}".rstrip())

    def _show_progress(self, progress: Progress) -> None:
        if self._working.count == 1:
            self._bar.show_progress(progress)
        else:
            fraction = (self._working.place - 1 + progress.fraction) / self._working.count
            self._bar.show_fraction(fraction, f"image {self._working.place} of {self._working.count}")

    def _plane(self, name: str) -> Plane | None:
        """Return the plane of a result; None if the user removed the image while it was being segmented."""
        plane = self._planes.get(name)
        return plane if plane is not None and plane.layer in self._session.layers.images() else None

    def _show_large(self, done: LargeDone) -> None:
        plane = self._plane(done.name)
        if plane is not None:
            levels = [labels_in_layers(level, done.classes) for level in levels_of(done.path)]
            self._session.layers.show_stored(plane, levels, in_layers(done.classes))
            self._session.layers.show_mean_uncertainty(plane, done.uncertainty, STEP)

    def _show(self, done: ImageDone) -> None:
        plane = self._plane(done.name)
        if plane is not None:
            self._session.layers.show_segmentation(plane, done.result)
            if done.uncertainty is not None:
                made = self._session.layers.show_uncertainty(plane, [(0, 0, done.uncertainty)])
                if made is not None:
                    self._session.layers.reveal(plane, made)
