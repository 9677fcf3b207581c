"""Opening images of the collection, one after the other, with the paint and the prediction that are kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from psygnal import Signal

from ..data.plane_names import split_name
from ..data.records import ImageRecord
from .plane import pixels_to_show

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .session import Session


class ImageOpener:
    """Opens images by record.

    Signals
    -------
    opened(bool)
        An image was opened; True if the user had a brush in hand and will want it again.
    """

    opened = Signal(bool)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wanted: ImageRecord | None = None
        self._words = ""

    def open(self, record: ImageRecord, said: str = "") -> None:
        """Show an image as a layer, and say so or what is ``said``; its file is read beside the window's thread."""
        self._wanted, self._words = record, said or f"Opened {record.name}."
        painting = self._session.layers.is_painting()
        if record.path is None:
            self._wanted = None
            self._show_layer(record, painting)
            return
        worker = create_worker(pixels_to_show, record, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(lambda pixels: self._show(record, pixels, painting))
        worker.errored.connect(self._session.fail)
        worker.start()

    def forget(self) -> None:
        """Show nothing of what is being opened: it belongs to images that were left."""
        self._wanted = None

    def name(self) -> str | None:
        """Return the name of the image that is being opened, or else of the current one."""
        image = self._session.state.image
        return self._wanted.name if self._wanted is not None else None if image is None else image.name

    def place(self) -> int | None:
        """Return the place of the current image in the collection, or None if it is not one of its images."""
        images, image = self._session.state.images, self._session.state.image
        if images is None or image is None:
            return None
        return next((place for place, record in enumerate(images.records) if record.name == image.name), None)

    def why_not_step(self, step: int) -> str | None:
        """Ask about going to the next (1) or the previous (-1) image."""
        images = self._session.state.images
        if images is None:
            return "Choose images in step 1 first."
        place = self.place()
        if place is not None and not 0 <= place + step < len(images):
            return "This is the last image." if step > 0 else "This is the first image."
        return None

    def step(self, step: int) -> None:
        """Open the next (1) or the previous (-1) image; the first one if none of them is open."""
        images = self._session.state.images
        why_not = self.why_not_step(step)
        if images is None or why_not is not None:
            self._session.say(why_not or "")
            return
        place = self.place()
        self.open(images.records[0 if place is None else place + step])

    def _show(self, record: ImageRecord, pixels: npt.NDArray[np.generic], painting: bool) -> None:
        # Whoever clicks through a list wants the last image, not each that was late, nor one in channels chosen before.
        if record is self._wanted and not self._session.closed:
            self._wanted = None
            self._session.layers.open_image(record, pixels)
            self._opened(record, painting)

    def _show_layer(self, record: ImageRecord, painting: bool) -> None:
        """Show an image that the user opened in napari."""
        images = self._session.state.images
        stack, index = split_name(record.name)
        others = {name for one in (images.records if images else ()) for name in (one.name, split_name(one.name)[0])}
        layers = self._session.layers
        if layers.show_stack(record.name, (), others) or (index and layers.show_stack(stack, index, others)):
            self._opened(record, painting)
        else:
            layers.open_image(record, record.read())
            self._opened(record, painting)

    def _opened(self, record: ImageRecord, painting: bool) -> None:
        self._session.say(self._words)
        self._session.restorer.restore_soon(lambda: self.opened.emit(painting))
        settings = self._session.keeper.file.settings
        self._session.keeper.update(settings=settings.replace(image=record.name))
