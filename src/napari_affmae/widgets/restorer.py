"""Shows the paint and the prediction that a project keeps of an image, once, when somebody first works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import AffmaeError
from .kinds import Kind
from .plane import spatial_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from .plane import Plane
    from .project_writer import SavedLabels
    from .session import Session


class Restorer:
    """Remembers of which images that was done."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._done: set[str] = set()
        self._project = 0
        session.layers.kept_removed.connect(self._forget)

    def is_done(self, group: str) -> bool:
        """Whether what is kept of an image, or a stack, was shown."""
        return group in self._done

    def begin_anew(self) -> None:
        """Forget what was shown: the project is another one."""
        self._done.clear()
        self._project += 1

    def restore(self, plane: Plane) -> bool:
        """Show what is kept of an image, unless that was done.

        Returns False, said, if it cannot be read: whatever is made on the image then would be saved over it.
        """
        if plane.group not in self._done:
            try:
                self._show(plane, self._session.keeper.read(plane.group))
            except AffmaeError as error:
                self._session.fail(error)
                return False
        return True

    def restore_soon(self, then: Callable[[], None]) -> None:
        """Show what is kept of the current image as soon as it is read; then, or at once if nothing is, call ``then``."""
        plane = self._session.layers.current()
        if plane is None or plane.group in self._done:
            then()
            return
        file, group, project = self._session.keeper.file, plane.group, self._project

        def show(saved: SavedLabels) -> None:
            if self._session.closed:
                return
            if project != self._project:  # it became another one meanwhile
                self.restore_soon(then)
                return
            self._show(plane, saved)
            then()

        self._session.keeper.run(lambda writer: writer.read(file, group), show)

    def _show(self, plane: Plane, saved: SavedLabels) -> None:
        """Show paint and prediction that fit the image, below what the user may have begun meanwhile."""
        layers, classes = self._session.layers, self._session.state.classes
        if plane.group in self._done or plane.layer not in layers.images():
            return
        self._done.add(plane.group)
        shape = spatial_shape(plane.layer)
        segmentation = saved.segmentation
        there = layers.kept(plane.group, Kind.SEGMENTATION)
        if segmentation is not None and segmentation.shape == shape and segmentation.any() and not there:
            layers.show_saved_segmentation(plane, segmentation, classes)
        if saved.paint is not None and saved.paint.shape == shape and saved.paint.any():
            layers.create_paint(plane, classes, saved.paint)

    def _forget(self, group: str) -> None:
        self._done.discard(group)
