"""Step 1: choose a folder or the open layers, see what was found, open an image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QListWidget, QMenu, QPushButton, QWidget

from ..data.plane_names import plane_name, split_name
from ..data.records import ImageCollection, ImageRecord
from .channel_counts import channels_mismatch, fitting
from .cut_short import cut_short
from .forms import JobBar, PathField, form_layout, note, row, set_live, set_note, step_layout
from .image_list import ImageList
from .jobs import OpenLayer, ScanDone, layers_job, scan_job
from .placement import pixel_size_of
from .plane import Plane, full_resolution
from .section import Section
from .state import choose_channels, count, why_not_scan, why_not_stop

if TYPE_CHECKING:
    from napari.layers import Image

    from .session import Session

OPEN_LAYERS = "open layers"
"""Where images come from that are no folder."""

COLORS = ("red", "green", "blue")


class ImagesStep(QWidget):
    """The form of step 1."""

    scanned = Signal(int, int)
    """Files read and files in all; emitted from the worker thread."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._found: ImageCollection | None = None
        self._chosen: list[int] = []
        self._pending_source = ""
        self._pending_layers: list[Image] = []
        self._asked = session.settings.folder
        self.folder = PathField("Choose a folder of images", "Folder of PNG, JPEG, TIFF or zarr images")
        self.folder.set_text(session.settings.folder)
        self.scan = QPushButton("Read folder")
        self.use_layers = QPushButton("Use open layers")
        self.bar = JobBar("images")
        self.stop = QPushButton("Stop")
        self.channels = QPushButton()
        self._channel_menu = QMenu(self.channels)
        self.channels.setMenu(self._channel_menu)
        self.summary = note()
        self.list = ImageList()
        self.progress = note()
        self.skipped = QListWidget()
        self.skipped.setWordWrap(True)
        self.skipped.setFixedHeight(90)
        self.skipped_section = Section("Skipped", self.skipped)
        self._lay_out()
        self._connect()
        self._render()

    def _lay_out(self) -> None:
        layout = step_layout(self)
        self.form = form_layout()
        self.form.addRow("Folder", self.folder)
        self.form.addRow("Channels", self.channels)
        layout.addLayout(self.form)
        layout.addLayout(row(self.scan, self.use_layers))
        layout.addLayout(row(self.bar, self.stop))
        layout.addWidget(self.summary)
        layout.addWidget(self.list)
        layout.addWidget(self.progress)
        layout.addWidget(self.skipped_section)
        self.form.setRowVisible(self.channels, False)
        for widget in (self.list, self.skipped_section, self.stop):
            widget.setVisible(False)

    def _connect(self) -> None:
        self.folder.chosen.connect(self._on_folder_chosen)
        self.folder.line.textChanged.connect(self._render)
        self.scan.clicked.connect(self.read_folder)
        self.use_layers.clicked.connect(self._use_layers)
        self.stop.clicked.connect(self._session.stop)
        self.list.wanted.connect(self._session.opener.open)
        self._session.keeper.changed.connect(self._show_states)
        self._channel_menu.triggered.connect(self._choose_channels)
        self.scanned.connect(self._on_scanned)
        self._session.event.connect(self._on_event)
        self._session.job_ended.connect(self._on_job_ended)
        self._session.state.events.connect(self._render)

    # Actions

    def _on_folder_chosen(self, folder: str) -> None:
        if folder and folder != self._asked and why_not_scan(self._session.state) is None:
            self.read_folder()

    def read_folder(self) -> None:
        """Read the folder in the line, in the worker."""
        self._asked = self.folder.text()
        path = Path(self._asked).expanduser()
        self._pending_source, self._pending_layers = os.path.abspath(path), []
        self._begin(f"reading {path.name}")
        self._session.start("scan", scan_job(self._session.engine, path, None, self.scanned.emit))

    def _use_layers(self) -> None:
        images = [image for image in self._session.layers.images() if image.visible]
        layers = [
            OpenLayer(Plane(image, ()).group, full_resolution(image), image.rgb, pixel_size_of(image)) for image in images
        ]
        self._pending_source, self._pending_layers = OPEN_LAYERS, images
        self._begin("reading layers")
        self._session.start("scan", layers_job(self._session.engine, layers))

    def _begin(self, what: str) -> None:
        self.bar.start()
        self.stop.setVisible(True)
        self.bar.setAccessibleName(what)

    def _choose_channels(self) -> None:
        chosen = [place for place, action in enumerate(self._channel_menu.actions()) if action.isChecked()]
        if self._found is not None and chosen and not self._take_channels(self._found, chosen):
            chosen = self._chosen
            for place, action in enumerate(self._channel_menu.actions()):
                action.setChecked(place in chosen)
        self._name_channels(chosen)

    def _take_channels(self, found: ImageCollection, chosen: list[int]) -> bool:
        """Use some of the channels everywhere, in open images, too; return False, said, if their paint cannot be saved."""
        session = self._session
        name = session.opener.name()
        if not session.leave_images():
            return False
        self._use_channels(found, chosen)
        keeper = session.keeper
        keeper.update(settings=keeper.file.settings.replace(channels=tuple(chosen) if len(chosen) < found.channels else ()))
        self._fill_list()
        session.say(self._mismatch() or f"Using {count(len(chosen), 'channel')} of {found.channels}.")
        if session.state.image is None or session.state.image.name != name:
            for record in session.state.images.records:
                if record.name == name:
                    session.opener.open(record)
        return True

    def _use_channels(self, found: ImageCollection, chosen: list[int]) -> None:
        session = self._session
        self._chosen = chosen
        session.state.images = choose_channels(found, chosen)
        part = session.state.source == OPEN_LAYERS and len(chosen) < found.channels
        session.layers.use_channels(tuple(chosen) if part else None)
        session.update_image()

    # Reactions

    def _on_event(self, event: object) -> None:
        if not isinstance(event, ScanDone):
            return
        source = self._pending_source
        is_another = source == OPEN_LAYERS or source != self._session.state.source
        chose = self._found is not None and len(self._chosen) < self._found.channels
        changed = not {*self._session.layers.opened()} <= {*event.images.records}
        if (is_another or chose or changed) and not self._session.leave_images(self._pending_layers):
            return
        taken = {Plane(image, ()).group: image for image in self._pending_layers}
        self._session.state.source = source
        self._remember_folder(source)
        # The project is that of these images by now, and knows by which names they go in it, and what was chosen before.
        self._found = _renamed(event.images, {name: Plane(image, ()).group for name, image in taken.items()})
        self._pending_layers = []
        every = range(self._found.channels)
        before = self._session.keeper.file.settings.channels
        self._use_channels(self._found, list(before if before and max(before) < len(every) else every))
        self._channel_menu.clear()
        for channel in every:
            action = self._channel_menu.addAction(COLORS[channel] if _is_coloured(self._found) else f"channel {channel}")
            action.setCheckable(True)
            action.setChecked(channel in self._chosen)
        self.form.setRowVisible(self.channels, len(every) > 1)
        self._name_channels(self._chosen)
        self._fill_list()
        if not self._session.project_of_others:
            # Otherwise that stands in the status line, and to open an image would paint it with what another one was.
            self._session.say(self._with_news(self._mismatch() or "Click an image to open it, or go on with step 2."))
            self._go_on()

    def _remember_folder(self, source: str) -> None:
        """Keep which folder was read; what was only typed may not be there. Open layers are of no folder."""
        session = self._session
        if source == OPEN_LAYERS:
            self._asked = ""
            self.folder.set_text("")
        else:
            session.settings = session.settings.replace(folder=self._asked)
            session.store.save(session.settings)

    def _on_scanned(self, done: int, total: int) -> None:
        self.bar.show_fraction(done / max(total, 1), f"{done} of {total}")

    def _on_job_ended(self, name: str) -> None:
        if name == "scan":
            self.bar.setVisible(False)
            self.stop.setVisible(False)

    def _name_channels(self, chosen: Sequence[int]) -> None:
        count = len(chosen)
        total = self._found.channels if self._found else 0
        self.channels.setText(f"all {total}" if count == total else f"{count} of {total}" if count else "choose at least one")

    def _with_news(self, text: str) -> str:
        """Return the text and what is to be known of the project that it comes with."""
        return " ".join(filter(None, (text, cut_short(self._session.state))))

    def _mismatch(self) -> str | None:
        state, channels = self._session.state, len(self._chosen)
        return channels_mismatch(fitting(channels, state.segmenter, state.pretrained), channels)

    def _fill_list(self) -> None:
        images = self._session.state.images
        if images is None:
            return
        self.list.show_records(images.records, self._session.keeper.file)
        self._show_states()
        self.skipped.clear()
        for one in images.skipped:
            self.skipped.addItem(f"{one.name}: {one.reason}")
        self.skipped_section.set_summary(f"{len(images.skipped)} of {len(images.skipped) + len(images)}")
        self.skipped_section.setVisible(bool(images.skipped))
        self.list.setVisible(True)

    def _go_on(self) -> None:
        """Open the image that was open when the project was left."""
        images, last = self._session.state.images, self._session.keeper.file.settings.image
        for record in images.records if images is not None else ():
            if record.name == last and self._session.state.image is None:
                welcome = f"Welcome back: going on with {last}."
                self._session.opener.open(record, self._with_news(" ".join(filter(None, (welcome, self._mismatch())))))

    def _show_states(self) -> None:
        self.list.show_states(self._session.keeper.file)
        set_note(self.progress, self.list.describe())

    def _render(self) -> None:
        self.list.show_current(self._session.opener.place())
        state = self._session.state
        set_live(self.scan, why_not_scan(state) or self._nothing_typed(), "Read the folder and its subfolders")
        layers = any(image.visible for image in self._session.layers.images())
        no_layer = None if layers else "No image layer is open and visible."
        set_live(self.use_layers, why_not_scan(state) or no_layer, "Use the visible image layers instead of a folder")
        set_live(self.stop, why_not_stop(state, "scan"), "Stop reading")
        set_live(self.channels, why_not_scan(state), "Which channels of the images to use")
        set_note(self.summary, _sentence(state.images, state.source) if state.images is not None else "")
        self.summary.setToolTip(state.source)

    def _nothing_typed(self) -> str | None:
        return None if self.folder.text() else "Choose a folder first."


def _renamed(images: ImageCollection, names: Mapping[str, str]) -> ImageCollection:
    """Return the collection with other names for some of its images and stacks."""

    def rename(record: ImageRecord) -> ImageRecord:
        stack, index = (record.name, ()) if record.name in names else split_name(record.name)
        return replace(record, name=plane_name(names.get(stack, stack), index))

    return replace(images, records=tuple(rename(record) for record in images.records))


def _is_coloured(images: ImageCollection) -> bool:
    """Whether the viewer shows these channels as they are, as red, green and blue."""
    return images.channels == len(COLORS) and all(record.dtype == "uint8" for record in images.records)


def _sentence(images: ImageCollection, source: str) -> str:
    """Say where images come from and what they are, a line each; the field above may name another folder by now."""
    of = source if source == OPEN_LAYERS else Path(source).name or source
    return f"From {of}:\n" + images.describe().replace("; ", "\n")
